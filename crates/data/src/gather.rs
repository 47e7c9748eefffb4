use crate::{Dataset, Error};
use pentimento_core::HostBatch;

/// Items by their numbers, as one batch without augmentation: test sets, anchors, pictures to show.
///
/// # Errors
/// An item that is not there or cannot be read.
pub fn gather(data: &dyn Dataset, items: &[u64]) -> Result<HostBatch, Error> {
    let [c, h, w] = data.shape();
    let (per, f) = (c * h * w, data.factors().len());
    let mut batch = HostBatch {
        x: vec![0.0; items.len() * per],
        shape: [items.len(), c, h, w],
        factors: vec![0.0; items.len() * f],
        n_factors: f,
        index: items.to_vec(),
        ..HostBatch::default()
    };
    for (row, &i) in items.iter().enumerate() {
        let x = &mut batch.x[row * per..(row + 1) * per];
        let label = data.item(i, x, &mut batch.factors[row * f..(row + 1) * f])?;
        if !data.classes().is_empty() {
            batch.y.push(label);
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digits;

    #[test]
    fn items_come_in_the_order_asked_for() {
        let set = digits();
        let batch = gather(&set, &[5, 0, 5]).unwrap();
        let one = gather(&set, &[0]).unwrap();
        assert_eq!((batch.shape, batch.y.len(), batch.index.as_slice()), ([3, 1, 8, 8], 3, &[5, 0, 5][..]));
        assert_eq!(&batch.x[64..128], &one.x[..]);
        assert_eq!((&batch.x[..64], batch.y[1]), (&batch.x[128..], one.y[0]));
        assert!(gather(&set, &[set.len()]).is_err());
    }
}

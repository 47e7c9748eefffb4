use crate::Error;
use pentimento_core::{Draws, Stream};
use std::sync::Arc;

/// A set of pictures with labels and factors, read by number from any thread.
pub trait Dataset: Send + Sync {
    /// Number of items.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[C, H, W]` of every item.
    fn shape(&self) -> [usize; 3];

    /// The same in libtorch's integers.
    fn size(&self) -> [i64; 3] {
        self.shape().map(|n| i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// Names of the classes; empty where items carry no label.
    fn classes(&self) -> &[String];

    /// Names of the factors of variation; empty where they are not known.
    fn factors(&self) -> &[String];

    /// Writes item i into `x` (`[C, H, W]`, in [-1, 1]) and `factors`; returns its label or [`pentimento_core::NO_LABEL`].
    ///
    /// # Errors
    /// An item that cannot be read.
    fn item(&self, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, Error>;

    /// The number that item i shares with those it must not be parted from when the set is split into training and
    /// validation: frames of one film are nearly the same picture.
    fn group(&self, i: u64) -> u64 {
        i
    }

    /// Words that describe item i.
    fn caption(&self, _i: u64) -> Option<String> {
        None
    }

    /// A line that changes whenever the content does.
    fn fingerprint(&self) -> String;
}

/// Some items of a data set, in ascending order.
pub struct Subset {
    inner: Arc<dyn Dataset>,
    items: Vec<u32>,
    what: String,
}

impl Subset {
    /// Items whose addressed hash of [`Dataset::group`] under `key` lies in `[from, to)` of the unit interval: ranges that
    /// do not overlap give parts without common groups, and items appended later move nothing.
    ///
    /// # Panics
    /// On more than 2^32 items; such sets are split by giving them different seeds.
    pub fn by_hash(inner: Arc<dyn Dataset>, key: u64, from: f64, to: f64) -> Self {
        let n = u32::try_from(inner.len()).unwrap_or_else(|_| panic!("a subset of {} items", inner.len()));
        let chosen = |i: &u32| {
            let u = Draws::at(key, inner.group(u64::from(*i)), 0, Stream::Order).uniform();
            from <= u && u < to
        };
        Self { items: (0..n).filter(chosen).collect(), inner, what: format!("hash {key:x} in [{from}, {to})") }
    }

    /// The first n items.
    pub fn first(inner: Arc<dyn Dataset>, n: u64) -> Self {
        let n = u32::try_from(n.min(inner.len())).unwrap_or(u32::MAX);
        Self { items: (0..n).collect(), inner, what: format!("first {n}") }
    }

    /// Without the items of a sorted list.
    pub fn without(inner: Arc<dyn Dataset>, bad: &[u64]) -> Self {
        let n = u32::try_from(inner.len()).unwrap_or(u32::MAX);
        let items = (0..n).filter(|i| bad.binary_search(&u64::from(*i)).is_err()).collect();
        Self { items, inner, what: format!("without {bad:?}") }
    }

    /// The number that an item of this part has in the whole.
    pub fn number(&self, i: u64) -> Option<u64> {
        self.items.get(usize::try_from(i).ok()?).map(|&n| u64::from(n))
    }

    fn at(&self, i: u64) -> Result<u64, Error> {
        self.number(i).ok_or_else(|| Error::bad(&self.what, format!("item {i} of {}", self.items.len())))
    }
}

impl Dataset for Subset {
    fn len(&self) -> u64 {
        self.items.len() as u64
    }
    fn shape(&self) -> [usize; 3] {
        self.inner.shape()
    }
    fn classes(&self) -> &[String] {
        self.inner.classes()
    }
    fn factors(&self) -> &[String] {
        self.inner.factors()
    }
    fn item(&self, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, Error> {
        self.inner.item(self.at(i)?, x, factors)
    }
    fn group(&self, i: u64) -> u64 {
        self.number(i).map_or(i, |n| self.inner.group(n))
    }
    fn caption(&self, i: u64) -> Option<String> {
        self.inner.caption(self.number(i)?)
    }
    fn fingerprint(&self) -> String {
        format!("{}; {}", self.inner.fingerprint(), self.what)
    }
}

/// Pictures held in memory as bytes: what the whole-array formats become.
pub struct Bytes {
    /// `[N, C, H, W]`, 0..=255 (or the range below).
    pub pixels: Vec<u8>,
    /// `[C, H, W]`
    pub shape: [usize; 3],
    /// Byte that stands for white.
    pub white: u8,
    /// Label of each, or none at all.
    pub labels: Vec<i64>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// `[N, F]` factors, or none.
    pub factors: Vec<f32>,
    /// Names of the factors.
    pub factor_names: Vec<String>,
    /// A line about the content.
    pub fingerprint: String,
}

impl Dataset for Bytes {
    fn len(&self) -> u64 {
        self.pixels.len().checked_div(self.shape.iter().product()).unwrap_or(0) as u64
    }
    fn shape(&self) -> [usize; 3] {
        self.shape
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn factors(&self) -> &[String] {
        &self.factor_names
    }
    fn item(&self, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, Error> {
        let (n, i) = (self.shape.iter().product::<usize>(), usize::try_from(i).unwrap_or(usize::MAX));
        let missing = || Error::bad(&self.fingerprint, format!("item {i} of {}", self.len()));
        let from = i.checked_mul(n).ok_or_else(missing)?;
        let pixels = self.pixels.get(from..from + n).ok_or_else(missing)?;
        let scale = 2.0 / f32::from(self.white);
        for (x, &p) in x.iter_mut().zip(pixels) {
            *x = f32::from(p) * scale - 1.0;
        }
        let f = self.factor_names.len();
        if f > 0 {
            factors.copy_from_slice(&self.factors[i * f..(i + 1) * f]);
        }
        Ok(self.labels.get(i).copied().unwrap_or(pentimento_core::NO_LABEL))
    }
    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ten() -> Arc<dyn Dataset> {
        Arc::new(Bytes {
            pixels: (0..200).collect(),
            shape: [1, 1, 1],
            white: 200,
            labels: (0..200).collect(),
            classes: (0..200).map(|c| c.to_string()).collect(),
            factors: Vec::new(),
            factor_names: Vec::new(),
            fingerprint: "ten".into(),
        })
    }

    #[test]
    fn parts_by_hash_are_disjoint_and_complete() {
        let parts: Vec<Subset> =
            [(0.0, 0.3), (0.3, 0.5), (0.5, 1.0)].map(|(a, b)| Subset::by_hash(ten(), 7, a, b)).into();
        let mut seen: Vec<u64> = parts.iter().flat_map(|p| (0..p.len()).filter_map(|i| p.number(i))).collect();
        assert!((40..80).contains(&parts[0].len()), "{}", parts[0].len());
        seen.sort_unstable();
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
        let mut x = [0.0];
        assert_eq!(parts[1].item(3, &mut x, &mut []).unwrap(), parts[1].number(3).unwrap().cast_signed());
        assert!(parts[1].item(1000, &mut x, &mut []).is_err());
    }

    #[test]
    fn bytes_span_minus_one_to_one_and_bad_items_are_left_out() {
        let set = ten();
        let mut x = [0.0];
        set.item(0, &mut x, &mut []).unwrap();
        assert!((x[0] + 1.0).abs() < 1e-6);
        set.item(100, &mut x, &mut []).unwrap();
        assert!(x[0].abs() < 1e-6);
        let rest = Subset::without(set, &[0, 5]);
        assert_eq!((rest.len(), rest.number(0), rest.number(4)), (198, Some(1), Some(6)));
    }
}

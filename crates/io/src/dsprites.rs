//! dSprites: binary shapes with exact factors, in one npz.
//!
//! # Source
//! google-deepmind/dsprites-dataset: `imgs` `[N, 64, 64]` of 0 and 1, `latents_classes` and `latents_values` `[N, 6]`,
//! the columns being colour, shape, scale, orientation, x and y. Its pickled `metadata` is not read.

use std::path::Path;

use crate::limits::Limits;
use crate::npz::Npz;
use crate::scalar;
use crate::source::{STANDARD, Source};
use crate::{Array, Error, Result, Values};

/// Names of the six columns.
pub const FACTORS: [&str; 6] = ["color", "shape", "scale", "orientation", "posX", "posY"];

/// Pictures and the factors they were drawn from.
#[derive(Clone, Debug, PartialEq)]
pub struct DSprites {
    /// `[N, H, W]` bytes of 0 and 1.
    pub images: Array,
    /// `[N, F]` doubles: the value of every factor.
    pub values: Array,
    /// `[N, F]` 64-bit integers: its index among the values that occur.
    pub classes: Array,
}

/// Reads a dSprites file, the original one or a part of it.
///
/// # Errors
/// When it cannot be read, an array is missing, or counts and types do not fit together.
pub fn read(path: &Path) -> Result<DSprites> {
    parse(&Source::open(path)?, STANDARD)
}

/// Whether an npz has the arrays of dSprites.
pub fn recognise(npz: &Npz) -> bool {
    ["imgs", "latents_values", "latents_classes"].iter().all(|name| npz.has(name))
}

/// Reads dSprites from a source.
///
/// # Errors
/// As [`read`].
pub fn parse(source: &Source, limits: &Limits) -> Result<DSprites> {
    let npz = Npz::from_source(source, limits)?;
    let path = source.path();
    let bad = |name: &str, found: String| {
        Err(Error::bad(path, format!("array {name}"), found, "take the file of google-deepmind/dsprites-dataset"))
    };
    // The factors first: they are small, and a wrong file is refused before its pictures are read.
    let classes = npz.array("latents_classes")?;
    let &[n, factors] = classes.shape() else {
        return bad("latents_classes", format!("shape {:?}, expected [N, F]", classes.shape()));
    };
    let shape = classes.shape().to_vec();
    let classes = match scalar::integers(classes.values()) {
        Some(numbers) if numbers.iter().all(|&c| c >= 0) => Array::new(shape, Values::I64(numbers)),
        _ => return bad("latents_classes", "fractions or negative numbers, expected indices from 0 on".into()),
    };
    let values = npz.array("latents_values")?;
    if values.shape() != [n, factors] || !matches!(values.values(), Values::F64(_)) {
        return bad("latents_values", format!("shape {:?}, expected [{n}, {factors}] doubles", values.shape()));
    }
    let images = npz.array("imgs")?;
    let binary = match (images.shape(), images.values()) {
        ([m, _, _], Values::U8(pixels)) if *m == n => pixels.iter().all(|&p| p <= 1),
        _ => return bad("imgs", format!("shape {:?}, expected [{n}, H, W] bytes", images.shape())),
    };
    if !binary {
        return bad("imgs", "pixels above 1, expected 0 and 1".into());
    }
    Ok(DSprites { images, values, classes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npz;
    use proptest::prelude::*;

    fn bytes(arrays: &[(&str, &Array)]) -> Vec<u8> {
        let mut to = std::io::Cursor::new(Vec::new());
        npz::write(&mut to, arrays.iter().copied()).unwrap();
        to.into_inner()
    }

    fn parse_bytes(bytes: Vec<u8>) -> Result<DSprites> {
        parse(&Source::from_bytes("d.npz", bytes), &Limits::TIGHT)
    }

    fn three(n: usize) -> (Array, Array, Array) {
        (
            Array::new(vec![n, 2, 2], Values::U8((0..4 * n).map(|i| (i % 3 == 0) as u8).collect())),
            Array::new(vec![n, 6], Values::F64((0..6 * n).map(|i| i as f64 / 4.0).collect())),
            Array::new(vec![n, 6], Values::I64((0..6 * n as i64).collect())),
        )
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let (imgs, values, classes) = three(2);
        let said = |i: &Array, v: &Array, c: &Array| {
            parse_bytes(bytes(&[("imgs", i), ("latents_values", v), ("latents_classes", c)])).unwrap_err().to_string()
        };
        let (imgs3, values3, classes3) = three(3);
        assert!(said(&imgs3, &values, &classes).contains("array imgs: shape [3, 2, 2], expected [2, H, W] bytes"));
        assert!(
            said(&imgs, &values3, &classes).contains("array latents_values: shape [3, 6], expected [2, 6] doubles")
        );
        assert!(said(&imgs, &values, &classes3).contains("array latents_values: shape [2, 6], expected [3, 6]"));
        let grey = Array::new(vec![2, 2, 2], Values::U8(vec![9; 8]));
        assert!(said(&grey, &values, &classes).contains("pixels above 1"));
        let negative = Array::new(vec![2, 6], Values::I64(vec![-1; 12]));
        assert!(said(&imgs, &values, &negative).contains("negative numbers"));
        let missing = parse_bytes(bytes(&[("imgs", &imgs)])).unwrap_err().to_string();
        assert!(missing.contains("no array 'latents_classes'"), "{missing}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_was_written_is_read(n in 1_usize..6) {
            let (images, values, classes) = three(n);
            let all = bytes(&[("latents_classes", &classes), ("imgs", &images), ("latents_values", &values)]);
            prop_assert!(recognise(&Npz::from_source(&Source::from_bytes("d", all.clone()), &Limits::TIGHT).unwrap()));
            prop_assert_eq!(parse_bytes(all).unwrap(), DSprites { images, values, classes });
        }
    }
}

//! 1797 hand-written digits of 8x8 pixels, embedded in the program (UCI optdigits; E. Alpaydin, C. Kaynak; CC BY 4.0).

use crate::dataset::Bytes;

const COUNT: usize = 1797;
const FILE: &[u8; COUNT * 65] = include_bytes!("../assets/digits.bin");

/// The embedded digits: `[1, 8, 8]`, ink = 1, ten classes.
pub fn digits() -> Bytes {
    let (labels, pixels) = FILE.split_at(COUNT);
    Bytes {
        pixels: pixels.to_vec(),
        shape: [1, 8, 8],
        white: 16,
        labels: labels.iter().map(|&l| i64::from(l)).collect(),
        classes: (0..10).map(|c| c.to_string()).collect(),
        factors: Vec::new(),
        factor_names: Vec::new(),
        fingerprint: "digits v1 (UCI optdigits test part, 1797)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dataset;

    /// Class counts of `sklearn.datasets.load_digits().target`.
    #[test]
    fn counts_are_those_of_scikit_learn() {
        let d = digits();
        let counts: Vec<usize> = (0..10).map(|c| d.labels.iter().filter(|&&l| l == c).count()).collect();
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!((d.len(), d.pixels.iter().max()), (1797, Some(&16)));
    }
}

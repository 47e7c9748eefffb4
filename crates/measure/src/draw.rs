//! Addressed draws for resampling and splitting: a draw is a function of (seed, stream, counter) and of nothing else, so draw 17
//! is the same whichever thread makes it and however many others are made.

use std::num::NonZeroUsize;

/// 64 mixed bits of one address: the finaliser of SplitMix64 (Steele, Lea, Flood 2014) over each part of the address in turn.
pub(crate) fn bits(seed: u64, stream: u64, counter: u64) -> u64 {
    // The odd constant keeps seed 0, stream 0, counter 0 away from the finaliser's fixed point at 0.
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    [seed, stream, counter]
        .into_iter()
        .fold(0, |state: u64, part| finalise(state.wrapping_add(part).wrapping_add(GOLDEN)))
}

/// An index below `n`; the bias of the multiply-shift, n / 2^64, is far below what a resample can show.
pub(crate) fn index(seed: u64, stream: u64, counter: u64, n: NonZeroUsize) -> usize {
    let wide = u128::from(bits(seed, stream, counter)) * n.get() as u128;
    usize::try_from(wide >> 64).unwrap_or(0)
}

/// A number in [0, 1), a multiple of 2^-53.
pub(crate) fn unit(seed: u64, stream: u64, counter: u64) -> f64 {
    (bits(seed, stream, counter) >> 11) as f64 * (0.5f64).powi(53)
}

/// `k` different indices below `n` in random order: the first `k` places of a shuffle.
///
/// # Panics
/// When `k` is more than `n`.
pub(crate) fn distinct(seed: u64, stream: u64, n: NonZeroUsize, k: usize) -> Vec<usize> {
    let mut items: Vec<usize> = (0..n.get()).collect();
    for (place, counter) in (0..k).zip(0..) {
        let left = NonZeroUsize::new(n.get() - place).unwrap_or(NonZeroUsize::MIN);
        items.swap(place, place + index(seed, stream, counter, left));
    }
    items.truncate(k);
    items
}

/// Two independent unit normals, by Box and Muller 1958.
pub(crate) fn normal_pair(seed: u64, stream: u64, counter: u64) -> [f64; 2] {
    // 1 - u lies in (0, 1], where the logarithm is finite.
    let radius = (-2.0 * (1.0 - unit(seed, stream, 2 * counter)).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * unit(seed, stream, 2 * counter + 1)).sin_cos();
    [radius * cos, radius * sin]
}

fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// About normal, from twelve uniform draws: enough for the tests of this crate.
#[cfg(test)]
pub(crate) fn normals(seed: u64, n: usize) -> Vec<f32> {
    let sum = |i: usize| (0..12).map(|k| unit(seed, 77, 12 * i as u64 + k)).sum::<f64>();
    (0..n).map(|i| (sum(i) - 6.0) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finaliser_is_splitmix64() {
        // First output of SplitMix64 seeded with 0, a published test value.
        assert_eq!(finalise(0x9E37_79B9_7F4A_7C15), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn draws_are_even_and_addresses_differ() {
        let n = NonZeroUsize::new(10).unwrap();
        let mut counts = [0u32; 10];
        (0..100_000).for_each(|c| counts[index(1, 2, c, n)] += 1);
        // 10,000 expected, standard deviation 95.
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 500), "{counts:?}");
        assert_ne!(bits(0, 1, 0), bits(1, 0, 0));
        assert_ne!(bits(0, 1, 0), bits(0, 0, 1));
    }

    #[test]
    fn shuffles_hold_every_index_once_and_each_place_is_even() {
        let n = NonZeroUsize::new(5).unwrap();
        let mut counts = [[0u32; 5]; 5];
        for stream in 0..20_000 {
            let all = distinct(7, stream, n, 5);
            all.iter().enumerate().for_each(|(place, &item)| counts[place][item] += 1);
            assert_eq!(all[..2], distinct(7, stream, n, 2));
            assert_eq!(all.iter().sum::<usize>(), 10);
        }
        // 4000 expected, standard deviation 57.
        assert!(counts.iter().flatten().all(|&c| c.abs_diff(4000) < 300), "{counts:?}");
    }

    #[test]
    fn normals_have_unit_moments() {
        let values: Vec<f64> = (0..50_000).flat_map(|c| normal_pair(3, 1, c)).collect();
        let moment = |p: i32| values.iter().map(|v| v.powi(p)).sum::<f64>() / 1e5;
        // Standard errors of the first four moments at 1e5 draws: 0.003, 0.0045, 0.012, 0.031.
        let got = [1, 2, 3, 4].map(moment);
        let near = |k: usize, want: f64, within: f64| (got[k] - want).abs() < within;
        assert!(near(0, 0.0, 0.013) && near(1, 1.0, 0.018) && near(2, 0.0, 0.05) && near(3, 3.0, 0.13), "{got:?}");
    }
}

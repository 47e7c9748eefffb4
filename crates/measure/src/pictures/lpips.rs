use super::stack::Pictures;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// One layer of a network: what it says of both pictures of each pair, and how much each channel counts.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Feature maps of the first pictures: `[N, C, H, W]`.
    pub a: &'a Pictures,
    /// Feature maps of the second pictures: `[N, C, H, W]`.
    pub b: &'a Pictures,
    /// Weights of the channels, none negative: `[C]`.
    pub weights: &'a [f32],
}

/// Perceptual distances of pairs of pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lpips {
    /// Distance of each pair: `[N]`.
    pub values: Vec<f64>,
    /// What each layer adds to it: `[layers][N]`.
    pub layers: Vec<Vec<f64>>,
}

/// Perceptual distance in the form of LPIPS over a network's feature maps, with the user's network and weights.
///
/// d = sum_l 1/(H_l W_l) sum_hw sum_c w_lc (a^_lchw - b^_lchw)^2, where at each place the features are scaled to unit length over
/// the channels. It is *the* LPIPS when the maps and weights are those of the released networks, whose inputs are pictures in
/// [-1, 1] that are shifted and scaled for each colour first.
///
/// # Errors
/// No layers, maps of different shapes, other than one weight a channel, a negative or non-finite weight, layers of different N.
///
/// # Source
/// Zhang et al. 2018 (arXiv 1801.03924), eq. 1. Lengths are kept off zero by 1e-10 as in their released code; torchmetrics
/// adds 1e-8 under the root instead, which differs where all features of a place are near 0.
pub fn lpips(layers: &[Layer<'_>]) -> Result<Lpips> {
    let Some(first) = layers.first() else {
        return Err(Error::TooFew { what: "layers", need: 1, got: 0 });
    };
    let layers = layers.iter().map(|layer| distances(layer, first.a.n())).collect::<Result<Vec<_>>>()?;
    let values = (0..first.a.n()).map(|i| layers.iter().map(|layer| layer[i]).sum()).collect();
    Ok(Lpips { values, layers })
}

fn distances(layer: &Layer<'_>, n: usize) -> Result<Vec<f64>> {
    let Layer { a, b, weights } = layer;
    a.want_same("second feature maps", b)?;
    if a.n() != n {
        return Err(Error::LengthMismatch { what: "pictures of a layer", want: n, got: a.n() });
    }
    let [c, h, w] = a.shape();
    if weights.len() != c {
        return Err(Error::LengthMismatch { what: "weights of the channels", want: c, got: weights.len() });
    }
    if let Some(bad) = weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
        return Err(Error::Setting { name: "channel weight", got: (*bad).into(), want: "finite and not negative" });
    }
    Ok(a.with(b, &|x, y| {
        let (scale_x, scale_y) = (inverse_lengths(x, h * w), inverse_lengths(y, h * w));
        let channels = x.chunks(h * w).zip(y.chunks(h * w)).zip(*weights);
        let channel = |((x, y), &weight): ((&[f32], &[f32]), &f32)| {
            let scaled = x.iter().zip(&scale_x).zip(y.iter().zip(&scale_y));
            let squares = scaled.map(|((&x, sx), (&y, sy))| (f64::from(x) * sx - f64::from(y) * sy).powi(2));
            f64::from(weight) * squares.sum::<f64>()
        };
        channels.map(channel).sum::<f64>() / (h * w) as f64
    }))
}

/// 1 / length of the features of each place: `[H W]`.
fn inverse_lengths(maps: &[f32], places: usize) -> Vec<f64> {
    const FLOOR: f64 = 1e-10;
    let mut squares = vec![0.0; places];
    for channel in maps.chunks(places) {
        squares.iter_mut().zip(channel).for_each(|(s, &v)| *s += f64::from(v).powi(2));
    }
    squares.iter_mut().for_each(|s| *s = 1.0 / (s.sqrt() + FLOOR));
    squares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, assert_close};

    #[test]
    fn equals_torch_fidelitys_normalised_weighted_sum() {
        let file = Fixture::open("measure_pictures/numbers.safetensors");
        let maps: Vec<_> = (0..3)
            .map(|l| {
                let [a, b] = ["a", "b"].map(|side| file.pictures(&format!("lpips.{l}.{side}")));
                (a, b, file.f32s(&format!("lpips.{l}.weights")))
            })
            .collect();
        let layers: Vec<Layer> = maps.iter().map(|(a, b, weights)| Layer { a, b, weights }).collect();
        let got = lpips(&layers).unwrap();
        got.values.iter().zip(file.f64s("lpips")).for_each(|(g, w)| assert_close(*g, w, 1e-9));
        assert_eq!((got.layers.len(), got.values.len()), (3, 2));
    }

    #[test]
    fn length_is_ignored_and_orthogonal_features_cost_two() {
        // Two channels, one place.
        let at = |x: f32, y: f32| Pictures::new([2, 1, 1], vec![x, y]).unwrap();
        let d = |a: &Pictures, b: &Pictures| lpips(&[Layer { a, b, weights: &[1.0, 1.0] }]).unwrap().values[0];
        assert_close(d(&at(3.0, 4.0), &at(6.0, 8.0)), 0.0, 1e-15);
        assert_close(d(&at(3.0, 0.0), &at(0.0, 0.5)), 2.0, 1e-9);
        // Nothing at a place is at distance 1 from something, and 0 from nothing.
        assert_close(d(&at(0.0, 0.0), &at(0.0, 0.5)), 1.0, 1e-9);
        assert_eq!(d(&at(0.0, 0.0), &at(0.0, 0.0)), 0.0);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let a = Pictures::new([2, 1, 1], vec![1.0; 2]).unwrap();
        let two = Pictures::new([2, 1, 1], vec![1.0; 4]).unwrap();
        let layer = Layer { a: &a, b: &a, weights: &[1.0, 1.0] };
        assert!(lpips(&[]).is_err());
        assert!(lpips(&[Layer { b: &two, ..layer }]).is_err());
        assert!(lpips(&[layer, Layer { a: &two, b: &two, ..layer }]).is_err());
        assert!(lpips(&[Layer { weights: &[1.0], ..layer }]).is_err());
        let said = lpips(&[Layer { weights: &[1.0, -0.5], ..layer }]).unwrap_err().to_string();
        assert_eq!(said, "channel weight = -0.5; it must be finite and not negative");
    }
}

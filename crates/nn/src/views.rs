//! Random views of pictures, as self-supervised methods compare them: cropped, mirrored, brighter or darker.

use pentimento_core::{Noise, Stream};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How far views go from their picture. Each is off at its neutral value.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Views {
    /// Share of the area that a crop keeps, smallest and largest; [1, 1] crops nothing.
    pub area: [f64; 2],
    /// Largest ratio of the crop's sides, and the inverse of the smallest; 1 = the picture's own.
    pub ratio: f64,
    /// How often a view is mirrored left-right.
    pub flip: f64,
    /// Brightness and contrast change by factors in 1 -/+ this.
    pub jitter: f64,
}

impl Default for Views {
    /// The crop of Inception training, as BYOL and SimCLR take it, with the brightness and contrast of BYOL.
    fn default() -> Self {
        Self { area: [0.08, 1.0], ratio: 4.0 / 3.0, flip: 0.5, jitter: 0.4 }
    }
}

impl Views {
    /// One view of each picture, resampled bilinearly to the picture's size.
    ///
    /// # Shapes
    /// - `x`: `[B, C, H, W]` in [-1, 1]; the same comes back
    pub fn draw(&self, x: &Tensor, noise: &Noise) -> Tensor {
        let u = noise.uniform(&[x.size()[0], 7], x.device(), Stream::Augment);
        let u = |i: i64| u.select(1, i);
        let area = u(0) * (self.area[1] - self.area[0]) + self.area[0];
        let ratio = ((u(1) * 2.0 - 1.0) * self.ratio.ln()).exp();
        // Half sides of the crop, where the picture spans [-1, 1]; a side that would be too long is cut.
        let [a, b] = [(&area * &ratio).sqrt().clamp_max(1.0), (&area / &ratio).sqrt().clamp_max(1.0)];
        let [cx, cy]: [Tensor; 2] = [(1.0 - &a) * (u(2) * 2.0 - 1.0), (1.0 - &b) * (u(3) * 2.0 - 1.0)];
        let mirror: Tensor = 1.0 - u(4).lt(self.flip).to_kind(Kind::Float) * 2.0;
        let a = a * mirror;
        let zero = a.zeros_like();
        let theta = Tensor::stack(&[&a, &zero, &cx, &zero, &b, &cy], 1).view([-1, 2, 3]);
        let grid = Tensor::affine_grid_generator(&theta, x.size(), false);
        // Bilinear; the border repeats.
        let x = x.grid_sampler(&grid, 0, 1, false);
        let factor = |i: i64| (u(i) * 2.0 - 1.0) * self.jitter + 1.0;
        let grey = (x + 1.0) * 0.5 * factor(5).view([-1, 1, 1, 1]);
        let mean = grey.mean_dim([1, 2, 3].as_slice(), true, Kind::Float);
        let grey = (grey - &mean) * factor(6).view([-1, 1, 1, 1]) + mean;
        grey.clamp(0.0, 1.0) * 2.0 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const NONE: Views = Views { area: [1.0, 1.0], ratio: 1.0, flip: 0.0, jitter: 0.0 };

    fn pictures(n: i64) -> Tensor {
        Tensor::arange(n * 3 * 6 * 5, (Kind::Float, Device::Cpu)).sin().view([n, 3, 6, 5])
    }

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn neutral_settings_change_nothing_and_a_mirror_is_exact() {
        let (x, noise) = (pictures(4), Noise::new(1, vec![0, 1, 2, 3]));
        assert!(gap(&NONE.draw(&x, &noise), &x) < 1e-5);
        assert!(gap(&Views { flip: 1.0, ..NONE }.draw(&x, &noise), &x.flip([3])) < 1e-5);
    }

    #[test]
    fn a_view_is_its_rows_own_and_stays_in_range() {
        let x = pictures(4);
        let views = Views::default();
        let all = views.draw(&x, &Noise::new(1, vec![0, 1, 2, 3]));
        assert_eq!(views.draw(&x.narrow(0, 2, 1), &Noise::new(1, vec![2])).get(0), all.get(2));
        assert!(all.abs().max().double_value(&[]) <= 1.0 && gap(&all, &x) > 0.1);
        assert_ne!(views.draw(&x, &Noise::new(1, vec![0, 1, 2, 3]).at_step(1)), all);
    }

    /// On a ramp in x the corners of a crop say where it was: half of the picture spans half of the ramp, and lies within.
    #[test]
    fn crops_keep_their_share() {
        let ramp =
            Tensor::linspace(-1.0, 1.0, 64, (Kind::Float, Device::Cpu)).view([1, 1, 1, 64]).repeat([200, 1, 64, 1]);
        let views = Views { area: [0.25, 0.25], ..NONE };
        let seen = views.draw(&ramp, &Noise::new(0, (0..200).collect()));
        let (left, right) = (seen.select(3, 0), seen.select(3, 63));
        let span = (&right - &left).mean(Kind::Double).double_value(&[]);
        assert!((span - 1.0).abs() < 0.03, "{span}");
        assert!(left.min().double_value(&[]) >= -1.0 && left.max().double_value(&[]) > -0.2);
    }
}

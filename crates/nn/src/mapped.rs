//! A backbone that is shown the place it is told, on a map beside the picture. What a network must otherwise learn, where in the
//! picture the coordinates (x, y) are, it is given.

use crate::{Error, Input, NetworkConfig};
use pentimento_core::{Condition, Network, Scope, Tap};
use tch::{Kind, Tensor};

/// Numbers of a condition vector that tell a place: whether one is told, and its coordinates.
const PLACE: i64 = 3;

/// A network under condition vectors (told, x, y, ...) `[B, D]`, coordinates in [-1, 1] from the left and from the top.
///
/// The place becomes a plane, told exp(-|p - (x, y)|^2 / (2 r^2)) at the pixel p; every further number fills a plane. Zeros are
/// silence, so that nothing is learned for a dropped condition. The planes enter with the state, and their outputs are cut off.
/// Vectors one behind the other, `[B, k D]`, are told together: their planes add up.
pub struct Mapped {
    inner: Box<dyn Network>,
    input: Input,
    width: i64,
    radius: f64,
}

impl Mapped {
    /// A backbone for images of `input` under vectors of `width` numbers; `radius` is r.
    ///
    /// # Errors
    /// As [`NetworkConfig::build`].
    ///
    /// # Panics
    /// On fewer than three numbers.
    pub fn new(config: &NetworkConfig, root: &Scope, input: Input, (width, radius): (i64, f64)) -> Result<Self, Error> {
        assert!(width >= PLACE, "{width} numbers tell no place");
        let [c, h, w] = input;
        let inner = config.build(root, [c + 1 + width - PLACE, h, w], 0)?;
        Ok(Self { inner, input, width, radius })
    }

    /// `[B, 1 + D - 3, H, W]`.
    fn planes(&self, c: &Tensor) -> Tensor {
        let [_, h, w] = self.input;
        let (b, rest) = (c.size()[0], c.size()[1] - PLACE);
        let line = |n: i64| (Tensor::arange(n, (Kind::Float, c.device())) * 2.0 + (1 - n) as f64) / n as f64;
        let off = |axis: i64, line: &Tensor| (line.unsqueeze(0) - c.narrow(1, axis, 1)).square(); // [B, W or H]
        let far = off(1, &line(w)).unsqueeze(1) + off(2, &line(h)).unsqueeze(2); // [B, H, W]
        let bump = (far / (-2.0 * self.radius * self.radius)).exp() * c.narrow(1, 0, 1).unsqueeze(2);
        let constant = c.narrow(1, PLACE, rest).unsqueeze(2).unsqueeze(3).expand([b, rest, h, w], false);
        Tensor::cat(&[bump.unsqueeze(1), constant], 1)
    }
}

impl Network for Mapped {
    /// # Panics
    /// Without a condition vector: silence is zeros.
    fn forward_with(&self, x: &Tensor, t: &Tensor, c: &Condition, tap: Tap<'_>) -> Tensor {
        let Some(vector) = &c.c else { panic!("a network with a map needs a condition vector, zeros for silence") };
        let planes: Tensor = vector.split(self.width, 1).iter().map(|told| self.planes(told)).sum();
        let x = Tensor::cat(&[x, &planes.to_kind(x.kind())], 1);
        let out = self.inner.forward_with(&x, t, &Condition::none(), tap);
        // One output per channel of the input, or two where the variance is learned.
        let cut: Vec<Tensor> =
            out.split(x.size()[1], 1).into_iter().map(|part| part.narrow(1, 0, self.input[0])).collect();
        Tensor::cat(&cut, 1)
    }

    fn blocks(&self) -> Vec<String> {
        self.inner.blocks()
    }

    fn macs(&self) -> u64 {
        self.inner.macs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DitConfig, open_gates};
    use pentimento_core::{Params, noise::init_normal};
    use tch::Device;

    fn network(learn_sigma: bool) -> (Params, Mapped) {
        let config = NetworkConfig::Dit(DitConfig { learn_sigma, ..DitConfig::sized([2, 16, 1, 2]) });
        let params = Params::new(Device::Cpu, 1);
        let mapped = Mapped::new(&config, &params.root(), [3, 4, 8], (5, 0.25)).unwrap();
        open_gates(&params, 2);
        (params, mapped)
    }

    #[test]
    fn a_place_is_a_bump_on_its_pixel_and_the_rest_are_constant_planes() {
        let (_params, mapped) = network(false);
        // The centre of the pixel in row 1, column 6, and nothing at all.
        let c = Tensor::from_slice(&[1.0_f32, 0.625, -0.25, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]).view([2, 5]);
        let planes = mapped.planes(&c);
        assert_eq!(planes.size(), [2, 3, 4, 8]);
        assert!((planes.double_value(&[0, 0, 1, 6]) - 1.0).abs() < 1e-6);
        // One column is 1/4 away, one row 1/2.
        let at = |row: i64, column: i64| planes.double_value(&[0, 0, row, column]);
        assert!((at(1, 5) - (-0.5_f64).exp()).abs() < 1e-6 && (at(2, 6) - (-2.0_f64).exp()).abs() < 1e-6);
        assert_eq!(planes.get(0).get(2), Tensor::full([4, 8], 3.0, (Kind::Float, Device::Cpu)));
        assert_eq!(planes.get(1).abs().sum(Kind::Float).double_value(&[]), 0.0);
    }

    #[test]
    fn places_told_together_are_two_bumps_on_one_map() {
        let (_params, mapped) = network(false);
        let (x, t) = (init_normal(3, "x", &[1, 3, 4, 8]), Tensor::from_slice(&[10.0_f32]));
        let [a, b] = [[1.0_f32, 0.625, -0.25, 0.0, 0.0], [1.0, -0.375, 0.25, 0.0, 0.0]]
            .map(|told| Tensor::from_slice(&told).view([1, 5]));
        let forward = |c: Tensor| mapped.forward(&x, &t, &Condition::vectors(c));
        let whole = Tensor::cat(&[&x, &(mapped.planes(&a) + mapped.planes(&b))], 1);
        let want = mapped.inner.forward(&whole, &t, &Condition::none()).narrow(1, 0, 3);
        assert_eq!(forward(Tensor::cat(&[&a, &b], 1)), want);
        assert_eq!(forward(Tensor::cat(&[&a, &a.zeros_like()], 1)), forward(a));
    }

    #[test]
    fn outputs_of_the_planes_are_cut_off_with_a_learned_variance_too() {
        for (learn_sigma, channels) in [(false, 3), (true, 6)] {
            let (_params, mapped) = network(learn_sigma);
            let x = init_normal(3, "x", &[2, 3, 4, 8]);
            let t = Tensor::from_slice(&[10.0_f32, 700.0]);
            let told = Condition::vectors(init_normal(4, "c", &[2, 5]));
            let [a, b] = [&told, &told.dropped()].map(|c| mapped.forward(&x, &t, c));
            assert_eq!(a.size(), [2, channels, 4, 8]);
            assert!((&a - &b).abs().max().double_value(&[]) > 1e-3, "it is heard");
            let whole = mapped.inner.forward(
                &Tensor::cat(&[&x, &mapped.planes(told.c.as_ref().unwrap())], 1),
                &t,
                &Condition::none(),
            );
            assert_eq!(a.narrow(1, 0, 3), whole.narrow(1, 0, 3));
            assert!(!learn_sigma || a.narrow(1, 3, 3) == whole.narrow(1, 6, 3));
        }
    }
}

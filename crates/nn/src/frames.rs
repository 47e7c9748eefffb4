//! Series to frames: strided convolutions over time that see no sample later than their own frame.

use crate::Error;
use pentimento_core::Scope;
use tch::Tensor;

/// One-dimensional convolutions with a rectifier after each. Padding stands on the left alone, kernel minus stride zeros, so that a
/// series of T frames gives T vectors and the one of frame t depends on nothing later than the frame's last sample.
///
/// # Source
/// The encoder of van den Oord et al. 2018 (arXiv 1807.03748, section 3.1) and, in its form, of the wav2vec family.
#[derive(Debug)]
pub struct FrameEncoder {
    /// Weight, bias, kernel, stride.
    convs: Vec<(Tensor, Tensor, i64, i64)>,
}

impl FrameEncoder {
    /// `[kernel, stride]` of each layer; layer i has `i.weight` `[channels, inputs, kernel]` and `i.bias`, with PyTorch's initial values.
    ///
    /// # Errors
    /// As [`FrameEncoder::frame`].
    pub fn new(p: &Scope, inputs: i64, channels: i64, convs: &[[i64; 2]]) -> Result<Self, Error> {
        Self::frame(convs)?;
        let conv = |(i, &[kernel, stride]): (usize, &[i64; 2])| {
            let (fan, p) = (if i == 0 { inputs } else { channels }, p.sub(i));
            let bound = ((fan * kernel) as f64).sqrt().recip();
            let weight = p.uniform("weight", &[channels, fan, kernel], bound);
            (weight, p.uniform("bias", &[channels], bound), kernel, stride)
        };
        Ok(Self { convs: convs.iter().enumerate().map(conv).collect() })
    }

    /// Samples of a frame: the product of the strides.
    ///
    /// # Errors
    /// A stride below 1, or a kernel below its stride, which would leave samples out.
    pub fn frame(convs: &[[i64; 2]]) -> Result<i64, Error> {
        match convs.iter().find(|[kernel, stride]| *stride < 1 || kernel < stride) {
            Some(got) => Err(Error::range(
                "kernel and stride",
                format!("{got:?}"),
                "a stride of at least 1 and a kernel no smaller",
            )),
            None => Ok(convs.iter().map(|[_, stride]| stride).product()),
        }
    }

    /// # Shapes
    /// - `x`: `[B, inputs, L]` with L a multiple of the frame
    /// - returns: `[B, T, channels]`
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let mut h = x.shallow_clone();
        for (weight, bias, kernel, stride) in &self.convs {
            h = h.constant_pad_nd([kernel - stride, 0]).conv1d(weight, Some(bias), *stride, 0, 1, 1).relu();
        }
        h.transpose(1, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::Params;
    use pentimento_core::noise::init_normal;
    use tch::{Device, Kind};

    fn largest(t: &Tensor) -> f64 {
        t.abs().max().double_value(&[])
    }

    #[test]
    fn a_layer_is_a_sum_over_the_samples_up_to_its_frame() {
        let p = Params::new(Device::Cpu, 1);
        let encoder = FrameEncoder::new(&p.root(), 2, 3, &[[5, 3]]).unwrap();
        let x = init_normal(1, "x", &[1, 2, 12]);
        let y = encoder.forward(&x);
        assert_eq!(y.size(), [1, 4, 3]);
        let all = p.entries();
        let (weight, bias) = (&all[0].tensor, &all[1].tensor);
        for (t, c) in [(0, 0), (0, 2), (1, 1), (3, 0)] {
            let mut want = bias.double_value(&[c]);
            for (i, k) in (0..2).flat_map(|i| (0..5).map(move |k| (i, k))) {
                let s = 3 * t + 2 - 4 + k; // the last of five samples is the last of the frame
                want += if s < 0 { 0.0 } else { weight.double_value(&[c, i, k]) * x.double_value(&[0, i, s]) };
            }
            assert!((y.double_value(&[0, t, c]) - want.max(0.0)).abs() < 1e-6, "{t} {c}");
        }
    }

    #[test]
    fn frames_are_counted_and_none_looks_ahead() {
        let convs = [[10, 5], [8, 4], [4, 2], [4, 2], [4, 2]];
        assert_eq!(FrameEncoder::frame(&convs).unwrap(), 160);
        let p = Params::new(Device::Cpu, 1);
        let encoder = FrameEncoder::new(&p.root(), 1, 8, &convs[1..4]).unwrap();
        let x = init_normal(1, "x", &[1, 1, 96]).set_requires_grad(true);
        let y = encoder.forward(&x);
        assert_eq!(y.size(), [1, 6, 8]);
        y.select(1, 3).sum(Kind::Float).backward();
        let slope = x.grad().view(-1);
        assert!(largest(&slope.narrow(0, 64, 32)) == 0.0 && largest(&slope.narrow(0, 63, 1)) > 0.0);
        // 1 + 7 + 3 * 4 + 3 * 8 samples are read.
        assert!(largest(&slope.narrow(0, 0, 20)) == 0.0 && largest(&slope.narrow(0, 20, 1)) > 0.0);
        let names: Vec<String> = p.entries().into_iter().map(|e| e.name).collect();
        assert_eq!(names[..3], ["0.weight", "0.bias", "1.weight"]);
    }

    #[test]
    fn a_kernel_that_would_leave_samples_out_is_refused() {
        let said = FrameEncoder::frame(&[[8, 4], [2, 3]]).unwrap_err().to_string();
        assert!(said.contains("[2, 3]") && said.contains("stride"), "{said}");
        assert!(FrameEncoder::frame(&[[4, 0]]).is_err());
    }
}

//! Gated recurrent units: a network that reads a sequence frame by frame.

use pentimento_core::Scope;
use tch::Tensor;

/// One layer of gated recurrent units. From state h and frame x the next state h' is
///
/// r = sigma(W_ir x + b_ir + W_hr h + b_hr),    z = sigma(W_iz x + b_iz + W_hz h + b_hz)
/// n = tanh(W_in x + b_in + r (W_hn h + b_hn)),    h' = (1 - z) n + z h
///
/// so it sees the frames up to its own and none later. The arithmetic is libtorch's.
///
/// # Source
/// Cho et al. 2014 (arXiv 1406.1078), in the form of `torch.nn.GRU`, whose reset gate acts after the matrix.
#[derive(Debug)]
pub struct Gru {
    /// W_i, W_h, b_i, b_h; rows in the order r, z, n.
    weights: [Tensor; 4],
    width: i64,
}

impl Gru {
    /// PyTorch's names and initial values: `weight_ih_l0` `[3 D, inputs]`, `weight_hh_l0` `[3 D, D]`, `bias_ih_l0` and `bias_hh_l0`
    /// `[3 D]`, all uniform within +-1/sqrt(D), where D is the width of the state.
    pub fn new(p: &Scope, inputs: i64, width: i64) -> Self {
        let (rows, bound) = (3 * width, (width as f64).sqrt().recip());
        let named = |name: &str, size: &[i64]| p.uniform(name, size, bound);
        let weights = [
            named("weight_ih_l0", &[rows, inputs]),
            named("weight_hh_l0", &[rows, width]),
            named("bias_ih_l0", &[rows]),
            named("bias_hh_l0", &[rows]),
        ];
        Self { weights, width }
    }

    /// The states after each frame, from a state of zeros on.
    ///
    /// # Shapes
    /// - `x`: `[B, T, inputs]`
    /// - returns: `[B, T, D]`
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let start = Tensor::zeros([x.size()[0], self.width], (x.kind(), x.device()));
        self.resume(x, &start)
    }

    /// The states after each frame, from a given state on.
    ///
    /// # Shapes
    /// - `x`: `[B, T, inputs]`, `h`: `[B, D]`
    /// - returns: `[B, T, D]`
    pub fn resume(&self, x: &Tensor, h: &Tensor) -> Tensor {
        // One layer, one direction, batches first, nothing left out.
        x.gru(&h.unsqueeze(0), &self.weights, true, 1, 0.0, true, false, true).0
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
    fn names_sizes_and_initial_values_are_those_of_pytorch() {
        let p = Params::new(Device::Cpu, 2);
        let _ = Gru::new(&p.root().sub("gru"), 40, 64);
        let all = p.entries();
        let names: Vec<&str> = all.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["gru.weight_ih_l0", "gru.weight_hh_l0", "gru.bias_ih_l0", "gru.bias_hh_l0"]);
        let sizes: Vec<_> = all.iter().map(|e| e.tensor.size()).collect();
        assert_eq!(sizes, [vec![192, 40], vec![192, 64], vec![192], vec![192]]);
        for e in &all {
            let most = largest(&e.tensor);
            assert!(most <= 0.125 && most > 0.12, "{}: {most}", e.name);
        }
    }

    #[test]
    fn a_state_follows_from_the_one_before_by_the_equations() {
        let (inputs, d) = (3, 5);
        let p = Params::new(Device::Cpu, 4);
        let gru = Gru::new(&p.root(), inputs, d);
        let x = init_normal(1, "x", &[2, 4, inputs]);
        let got = gru.forward(&x);
        let part = |w: &Tensor, k: i64| w.narrow(0, k * d, d);
        let mut h = Tensor::zeros([2, d], (Kind::Float, Device::Cpu));
        for t in 0..4 {
            let frame = x.select(1, t);
            let [wi, wh, bi, bh] = &gru.weights;
            let from_x = |k| frame.matmul(&part(wi, k).tr()) + part(bi, k);
            let from_h = |k| h.matmul(&part(wh, k).tr()) + part(bh, k);
            let [r, z] = [0, 1].map(|k| (from_x(k) + from_h(k)).sigmoid());
            let n = (from_x(2) + r * from_h(2)).tanh();
            h = (1.0 - &z) * n + z * h;
            assert!(largest(&(&h - got.select(1, t))) < 1e-6, "frame {t}");
        }
    }

    #[test]
    fn a_sequence_can_be_read_in_two_parts() {
        let p = Params::new(Device::Cpu, 4);
        let gru = Gru::new(&p.root(), 3, 5);
        let x = init_normal(1, "x", &[2, 7, 3]);
        let (whole, first) = (gru.forward(&x), gru.forward(&x.narrow(1, 0, 4)));
        let rest = gru.resume(&x.narrow(1, 4, 3), &first.select(1, 3));
        assert!(largest(&(Tensor::cat(&[first, rest], 1) - whole)) < 1e-6);
    }

    /// The gradient of the state after frame 2 is zero in all later frames and in none up to it.
    #[test]
    fn a_state_depends_on_no_later_frame() {
        let p = Params::new(Device::Cpu, 4);
        let x = init_normal(1, "x", &[1, 6, 3]).set_requires_grad(true);
        Gru::new(&p.root(), 3, 5).forward(&x).select(1, 2).sum(Kind::Float).backward();
        let reached: Vec<f64> = (0..6).map(|t| largest(&x.grad().select(1, t))).collect();
        assert!(reached[..3].iter().all(|g| *g > 0.0) && reached[3..].iter().all(|g| *g == 0.0), "{reached:?}");
        assert!(p.entries().iter().all(|e| largest(&e.tensor.grad()) > 0.0));
    }
}

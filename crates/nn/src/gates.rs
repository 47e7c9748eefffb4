use pentimento_core::{Params, Role, noise};

/// Draws every weight that starts at zero as an ordinary layer would start, and sets the gates of adaLN-Zero to one.
///
/// A fresh DiT is the identity in every block, and a fresh U-Net hides the second half of every residual branch: as a
/// "random network" beside a trained one they are straw men, whose features are little more than the input. With open
/// gates the blocks are those of a randomly initialised plain transformer or residual network, which is what a probe
/// must be compared with.
///
/// Matrices and kernels that are all zero become Xavier-uniform by (seed, name); the two gate rows of each
/// `adaLN_modulation.1.bias` become 1. Everything else stays. Call it on a freshly built network.
pub fn open_gates(params: &Params, seed: u64) {
    let _guard = tch::no_grad_guard();
    for e in params.entries().into_iter().filter(|e| e.role == Role::Trainable) {
        let (size, mut tensor) = (e.tensor.size(), e.tensor);
        if size.len() >= 2 && tensor.count_nonzero(None::<i64>).int64_value(&[]) == 0 {
            let fan_in: i64 = size[1..].iter().product();
            let fan_out: i64 = size[0] * size[2..].iter().product::<i64>();
            let bound = (6.0 / (fan_in + fan_out) as f64).sqrt();
            tensor.copy_(&(noise::init_uniform(seed, &e.name, &size) * bound));
        }
        // The final layer's modulation has no gate: only [shift, scale, gate] x 2 is six rows.
        if e.name.starts_with("blocks.") && e.name.ends_with("adaLN_modulation.1.bias") {
            let width = size[0].div_euclid(6);
            let _ = tensor.narrow(0, 2 * width, width).fill_(1.0);
            let _ = tensor.narrow(0, 5 * width, width).fill_(1.0);
        }
    }
}

//! Layers fused into one pass over memory, forward and backward, for f32 and bf16 on the CPU; sums and statistics are f32 in either.
//!
//! Each returns `None` where the kernels do not reach (another device or kind, forward-mode differentiation); the caller then
//! composes the same layer of libtorch's operations. A second derivative always runs through those. Sums run in another order
//! than libtorch's, so results agree to rounding; they do not depend on the number of threads.

use crate::check;
use crate::products::own_kind;
use std::ffi::c_int;
use tch::{Kind, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pshim_fused_takes(a: *const *mut C_tensor, n: usize) -> c_int;
    fn pshim_bernoulli(x: *mut C_tensor, logits: *mut C_tensor, y: *mut *mut C_tensor) -> c_int;
    fn pshim_gaussian_kl(mean: *mut C_tensor, logvar: *mut C_tensor, y: *mut *mut C_tensor) -> c_int;
    fn pshim_gaussian_at(
        mean: *mut C_tensor,
        logvar: *mut C_tensor,
        eps: *mut C_tensor,
        y: *mut *mut C_tensor,
    ) -> c_int;
    fn pshim_gelu(x: *mut C_tensor, y: *mut *mut C_tensor) -> c_int;
    fn pshim_adaln(
        x: *mut C_tensor,
        shift: *mut C_tensor,
        scale: *mut C_tensor,
        eps: f64,
        y: *mut *mut C_tensor,
    ) -> c_int;
    fn pshim_gated(x: *mut C_tensor, gate: *mut C_tensor, h: *mut C_tensor, y: *mut *mut C_tensor) -> c_int;
    fn pshim_group_norm(
        x: *mut C_tensor,
        gain: *mut C_tensor,
        offset: *mut C_tensor,
        groups: i64,
        eps: f64,
        silu: c_int,
        y: *mut *mut C_tensor,
    ) -> c_int;
    fn pshim_attention(qkv: *mut C_tensor, heads: i64, heads_first: c_int, y: *mut *mut C_tensor) -> c_int;
}

/// Whether the kernels reach these tensors.
pub(crate) fn takes(all: &[&Tensor]) -> bool {
    let p: Vec<_> = all.iter().map(|t| t.as_ptr().cast_mut()).collect();
    // SAFETY: live tensors borrowed for the call.
    unsafe { pshim_fused_takes(p.as_ptr(), p.len()) != 0 }
}

/// The tensor that an entry point of the shim hands out.
pub(crate) fn made(call: impl FnOnce(*mut *mut C_tensor) -> c_int) -> Tensor {
    let mut out = std::ptr::null_mut();
    check(call(&mut out)).unwrap_or_else(|e| panic!("fused layer: {e}"));
    // SAFETY: the call succeeded, so `out` is a freshly allocated tensor that the returned value owns.
    unsafe { Tensor::from_ptr(out) }
}

/// GELU in its tanh form, x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
///
/// # Source
/// Hendrycks and Gimpel 2016 (arXiv 1606.08415), section 2; as x / (1 + e^(-2 u)), which needs one exponential.
pub fn gelu_tanh(x: &Tensor) -> Option<Tensor> {
    // SAFETY: a live tensor borrowed for the call.
    takes(&[x]).then(|| made(|y| unsafe { pshim_gelu(x.as_ptr().cast_mut(), y) }))
}

/// ln p(x) under independent Bernoulli variables with these logits, summed over each row: sum_d x_d l_d - softplus(l_d), in f32.
///
/// Where products are libtorch's this is too: what was measured there keeps its bits.
///
/// # Shapes
/// - `x`, `logits`: `[B, D]`
/// - returns: `[B]`
pub fn bernoulli(x: &Tensor, logits: &Tensor) -> Option<Tensor> {
    if !likelihoods_take(&[x, logits]) {
        return None;
    }
    let (x, logits) = (x.as_ptr().cast_mut(), logits.as_ptr().cast_mut());
    // SAFETY: live tensors borrowed for the call, of the shapes the kernel reads.
    Some(made(|y| unsafe { pshim_bernoulli(x, logits, y) }))
}

/// KL(N(mean, e^logvar) || N(0, I)) of each row, in f32: sum_d (m_d^2 + e^(l_d) - 1 - l_d) / 2. Above ln sigma^2 = 87 it is infinite. Where
/// [`bernoulli`] is taken.
///
/// # Shapes
/// - `mean`, `logvar`: `[B, D]`
/// - returns: `[B]`
pub fn gaussian_kl(mean: &Tensor, logvar: &Tensor) -> Option<Tensor> {
    if !likelihoods_take(&[mean, logvar]) {
        return None;
    }
    let (m, l) = (mean.as_ptr().cast_mut(), logvar.as_ptr().cast_mut());
    // SAFETY: live tensors borrowed for the call, of the shapes the kernel reads.
    Some(made(|y| unsafe { pshim_gaussian_kl(m, l, y) }))
}

/// Draws `mean + e^(logvar / 2) eps` at given eps, in f32. Where [`bernoulli`] is taken.
///
/// # Shapes
/// - `mean`, `logvar`, `eps`: `[B, D]`
/// - returns: `[B, D]`
pub fn gaussian_at(mean: &Tensor, logvar: &Tensor, eps: &Tensor) -> Option<Tensor> {
    if !likelihoods_take(&[mean, logvar, eps]) {
        return None;
    }
    let (m, l, e) = (mean.as_ptr().cast_mut(), logvar.as_ptr().cast_mut(), eps.as_ptr().cast_mut());
    // SAFETY: live tensors borrowed for the call, of the shapes the kernel reads.
    Some(made(|y| unsafe { pshim_gaussian_at(m, l, e, y) }))
}

/// Whether these are f32 of the same `[B, D]`, where products are our own.
fn likelihoods_take(all: &[&Tensor]) -> bool {
    let fits = |t: &&Tensor| t.kind() == Kind::Float && t.dim() == 2 && t.size() == all[0].size();
    all.iter().all(fits) && own_kind().is_some() && takes(all)
}

/// Layer normalisation, then scale and shift per sample: `norm(x) (1 + scale) + shift`.
///
/// # Shapes
/// - `x`: `[B, T, D]`; `shift`, `scale`: `[B, 1, D]`
/// - returns: `[B, T, D]`, in the kind of `shift`, which under autocast is that of the product that follows
pub fn adaln(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Option<Tensor> {
    let kinds = shift.kind() == scale.kind();
    if !kinds || !fits(x, shift) || !fits(x, scale) || !takes(&[x, shift, scale]) {
        return None;
    }
    let (a, b, c) = (x.as_ptr().cast_mut(), shift.as_ptr().cast_mut(), scale.as_ptr().cast_mut());
    // SAFETY: live tensors borrowed for the call, of the shapes the kernel reads.
    Some(made(|y| unsafe { pshim_adaln(a, b, c, eps, y) }))
}

/// A gated residual sum: `x + gate h`.
///
/// # Shapes
/// - `x`, `h`: `[B, T, D]`; `gate`: `[B, 1, D]`
/// - returns: `[B, T, D]`, in the kind of `x`: the sum of a residual stream stays f32 where `gate` and `h` are bf16
pub fn gated(x: &Tensor, gate: &Tensor, h: &Tensor) -> Option<Tensor> {
    let kinds = x.kind() == Kind::Float || (x.kind() == gate.kind() && x.kind() == h.kind());
    if !kinds || x.size() != h.size() || !fits(x, gate) || !takes(&[x, gate, h]) {
        return None;
    }
    let (a, b, c) = (x.as_ptr().cast_mut(), gate.as_ptr().cast_mut(), h.as_ptr().cast_mut());
    // SAFETY: live tensors borrowed for the call, of the shapes the kernel reads.
    Some(made(|y| unsafe { pshim_gated(a, b, c, y) }))
}

/// Group normalisation of channels-last pictures, then gain and offset per channel, then SiLU where asked:
/// `f(norm(x) gain + offset)`. Statistics in f32.
///
/// # Shapes
/// - `x`: `[B, C, H, W]` stored channels-last, f32 or bf16; `gain`, `offset`: `[1, C]` or `[B, C]`, f32
/// - returns: `[B, C, H, W]`, stored and typed as `x`
pub fn group_norm(x: &Tensor, gain: &Tensor, offset: &Tensor, groups: i64, eps: f64, silu: bool) -> Option<Tensor> {
    let size = x.size();
    let lines = |v: &Tensor| v.size() == [1, size[1]] || v.size() == [size[0], size[1]];
    let single = gain.kind() == Kind::Float && offset.kind() == Kind::Float;
    let fits = single
        && size.len() == 4
        && x.numel() > 0
        && groups > 0
        && size[1] % groups == 0
        && lines(gain)
        && lines(offset);
    if !fits || !crate::is_channels_last(x) || !takes(&[x, gain, offset]) {
        return None;
    }
    let (a, b, c) = (x.as_ptr().cast_mut(), gain.as_ptr().cast_mut(), offset.as_ptr().cast_mut());
    // SAFETY: live tensors borrowed for the call, of the shapes and layout the kernel reads.
    Some(made(|y| unsafe { pshim_group_norm(a, b, c, groups, eps, c_int::from(silu), y) }))
}

/// Tokens up to which [`attention`] holds a head's whole table of weights in the cache.
const FEW_TOKENS: i64 = 256;

/// Attention of few tokens over fused queries, keys and values, a head at a time in the cache.
///
/// # Shapes
/// - `qkv`: `[B, T, 3 D]`, T at most 256; rows `[3, heads, d]`, or `[heads, 3, d]` where `heads_first`
/// - returns: `[B, T, D]`
pub fn attention(qkv: &Tensor, heads: i64, heads_first: bool) -> Option<Tensor> {
    let size = qkv.size();
    let few = size.len() == 3 && (1..=FEW_TOKENS).contains(&size[1]) && heads > 0 && size[2] % (3 * heads) == 0;
    if !few || !takes(&[qkv]) {
        return None;
    }
    let x = qkv.as_ptr().cast_mut();
    // SAFETY: a live tensor borrowed for the call, of the shape the kernel reads.
    Some(made(|y| unsafe { pshim_attention(x, heads, c_int::from(heads_first), y) }))
}

/// Whether `v` is one row `[B, 1, D]` per sample of `x: [B, T, D]`.
fn fits(x: &Tensor, v: &Tensor) -> bool {
    let (x, v) = (x.size(), v.size());
    x.len() == 3 && v == [x[0], 1, x[2]]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::products::own_products;
    use tch::Device;

    /// Fixed, rough numbers with a graph behind them.
    pub(crate) fn leaf(size: &[i64], frequency: f64) -> Tensor {
        let n: i64 = size.iter().product();
        let x = (Tensor::arange(n, (Kind::Double, Device::Cpu)) * frequency).sin() * 2.0;
        x.to_kind(Kind::Float).view(size).set_requires_grad(true)
    }

    pub(crate) fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// Value, gradients and gradients of a function of the gradients: fused against composed.
    pub(crate) fn agree(
        name: &str,
        inputs: &[Tensor],
        fused: &dyn Fn(&[Tensor]) -> Tensor,
        plain: &dyn Fn(&[Tensor]) -> Tensor,
    ) {
        let all = |f: &dyn Fn(&[Tensor]) -> Tensor| {
            let y = f(inputs);
            let mut out = vec![y.detach()];
            let weights = Tensor::arange(y.numel() as i64, (Kind::Float, Device::Cpu)).cos().view(y.size().as_slice());
            let first = Tensor::run_backward(&[(&y * &weights).sum(Kind::Float)], inputs, true, false);
            out.extend(first);
            let y = f(inputs);
            let first = Tensor::run_backward(&[(&y * &weights).sum(Kind::Float)], inputs, true, true);
            let sum = first.iter().map(|g| g.square().sum(Kind::Float)).reduce(|a, b| a + b).unwrap();
            let second = Tensor::run_backward(&[sum], inputs, false, false);
            // What the first derivative does not depend on has no second one.
            out.extend(second.into_iter().zip(inputs).map(|(g, x)| if g.defined() { g } else { x.zeros_like() }));
            out
        };
        for (i, (a, b)) in all(fused).iter().zip(all(plain)).enumerate() {
            let scale = b.abs().max().double_value(&[]).max(1.0);
            assert!(gap(a, &b) < 2e-5 * scale, "{name}, output {i}: {} of {scale}", gap(a, &b));
        }
        let _guard = tch::no_grad_guard();
        assert!(gap(&fused(inputs), &plain(inputs)) < 1e-5, "{name} without a graph");
    }

    #[test]
    fn gelu_equals_libtorch_with_two_derivatives() {
        // Odd sizes reach the loops' tails; the factor reaches both flat ends.
        for n in [1, 7, 1003, 40_001] {
            agree("gelu", &[leaf(&[n], 0.7)], &|x| gelu_tanh(&(&x[0] * 4.0)).unwrap(), &|x| (&x[0] * 4.0).gelu("tanh"));
        }
        let x = Tensor::from_slice(&[f32::NAN, 100.0, -100.0, 0.0]);
        let y = Vec::<f32>::try_from(gelu_tanh(&x).unwrap()).unwrap();
        assert!(y[0].is_nan() && y[1] == 100.0 && y[2].abs() < 1e-30 && y[3] == 0.0, "{y:?}");
    }

    #[test]
    fn coins_equal_libtorch_with_two_derivatives() {
        let plain = |v: &[Tensor]| (&v[0] * &v[1] - v[1].softplus()).sum_dim_intlist(1, false, Kind::Float);
        let own = |v: &[Tensor]| bernoulli(&v[0], &v[1]);
        // Widths below a vector, with tails, and rows for several threads.
        for (rows, width) in [(3, 1), (5, 13), (300, 784)] {
            let grey = || leaf(&[rows, width], 1.3).sigmoid().detach().set_requires_grad(true);
            let inputs = [grey(), (leaf(&[rows, width], 0.7) * 3.0).detach().set_requires_grad(true)];
            assert_eq!(own(&inputs).is_some(), own_products(), "every maker's processor but Intel's");
            // Rounding of a sum grows with its numbers.
            let mean = |sum: Tensor| sum / width as f64;
            agree("coins", &inputs, &|v| mean(own(v).unwrap_or_else(|| plain(v))), &|v| mean(plain(v)));
        }
        // One coin at a time, against f64, from where ln(1 + u) is u to where it is ln 2; far out, and where there is no number.
        let logits = (Tensor::arange(4001, (Kind::Float, Device::Cpu)) * 0.02 - 40.0).view([-1, 1]);
        let want = -logits.to_kind(Kind::Double).exp().log1p();
        if let Some(found) = bernoulli(&logits.zeros_like(), &logits) {
            let want = want.sum_dim_intlist(1, false, Kind::Double);
            let off = ((found.to_kind(Kind::Double) - &want) / &want).abs().max().double_value(&[]);
            assert!(off < 1e-6, "{off}");
            let one = |x: f32, l: f32| {
                let pair = [x, l].map(|v| Tensor::from_slice(&[v]).view([1, 1]));
                bernoulli(&pair[0], &pair[1]).unwrap().double_value(&[0])
            };
            assert!(one(1.0, f32::NAN).is_nan() && one(1.0, -300.0) == -300.0 && one(0.0, -300.0).abs() < 1e-37);
            let double = logits.to_kind(Kind::Double);
            assert!(bernoulli(&double, &double).is_none() && bernoulli(&logits, &logits.view(-1)).is_none());
        }
    }

    #[test]
    fn gaussians_equal_libtorch_with_two_derivatives() {
        let plain_kl =
            |m: &Tensor, l: &Tensor| ((m.square() + l.exp() - 1.0 - l) * 0.5).sum_dim_intlist(1, false, Kind::Float);
        let plain_at = |m: &Tensor, l: &Tensor, e: &Tensor| m + (l * 0.5).exp() * e;
        for (rows, width) in [(3, 1), (5, 13), (700, 32)] {
            // Halves of one output, as an encoder gives them.
            let inputs = [leaf(&[rows, 2 * width], 1.3), leaf(&[rows, width], 0.7)];
            let cut = |v: &[Tensor]| v[0].chunk(2, 1);
            let kl = |v: &[Tensor]| gaussian_kl(&cut(v)[0], &cut(v)[1]);
            let at = |v: &[Tensor]| gaussian_at(&cut(v)[0], &cut(v)[1], &v[1]);
            assert_eq!((kl(&inputs).is_some(), at(&inputs).is_some()), (own_products(), own_products()));
            let mean = |sum: Tensor| sum / width as f64;
            let plain = |v: &[Tensor]| plain_kl(&cut(v)[0], &cut(v)[1]);
            agree("divergence", &inputs[..1], &|v| mean(kl(v).unwrap_or_else(|| plain(v))), &|v| mean(plain(v)));
            let plain = |v: &[Tensor]| plain_at(&cut(v)[0], &cut(v)[1], &v[1]);
            agree("draws", &inputs, &|v| at(v).unwrap_or_else(|| plain(v)), &plain);
        }
        // What runs away is seen to: no finite number in place of an infinite one.
        let one = |v: f32| Tensor::from_slice(&[v]).view([1, 1]);
        for (logvar, want) in [(-300.0, 149.5), (300.0, f64::INFINITY), (f32::NAN, f64::NAN)] {
            let Some(found) = gaussian_kl(&one(0.0), &one(logvar)) else { return };
            let found = found.double_value(&[0]);
            assert!(found == want || (found.is_nan() && want.is_nan()), "{logvar}: {found}");
        }
        assert!(gaussian_at(&one(0.0), &one(300.0), &one(1.0)).unwrap().double_value(&[0]).is_infinite());
        let double = one(1.0).to_kind(Kind::Double);
        assert!(gaussian_kl(&double, &double).is_none() && gaussian_kl(&one(1.0), &one(1.0).view(-1)).is_none());
        assert!(gaussian_at(&one(1.0), &one(1.0), &one(1.0).view(-1)).is_none());
    }

    #[test]
    fn adaln_and_gate_equal_their_composition_with_two_derivatives() {
        for (b, t, d) in [(1, 1, 5), (2, 3, 16), (3, 17, 40)] {
            // Shift, scale and gate as views of one projection, as a block makes them.
            let inputs = [leaf(&[b, t, d], 0.7), leaf(&[b, 3 * d], 1.3), leaf(&[b, t, d], 2.1)];
            let cut = |v: &[Tensor]| v[1].unsqueeze(1).chunk(3, -1);
            agree("adaln", &inputs[..2], &|v| adaln(&v[0], &cut(v)[0], &cut(v)[1], 1e-6).unwrap(), &|v| {
                let n = v[0].layer_norm([d], None::<&Tensor>, None::<&Tensor>, 1e-6, true);
                n * (&cut(v)[1] + 1.0) + &cut(v)[0]
            });
            agree("gated", &inputs, &|v| gated(&v[0], &cut(v)[2], &v[2]).unwrap(), &|v| &v[0] + &cut(v)[2] * &v[2]);
        }
    }

    #[test]
    fn attention_of_few_tokens_equals_the_textbook_with_two_derivatives() {
        for (b, t, heads, head) in [(1, 1, 1, 1), (2, 5, 3, 4), (1, 13, 2, 16), (1, 17, 2, 20), (2, 64, 2, 32)] {
            for heads_first in [false, true] {
                let plain = |v: &[Tensor]| {
                    let parts = if heads_first {
                        v[0].view([b, t, heads, 3, head]).permute([3, 0, 2, 1, 4])
                    } else {
                        v[0].view([b, t, 3, heads, head]).permute([2, 0, 3, 1, 4])
                    };
                    let parts = parts.unbind(0);
                    let s = parts[0].matmul(&parts[1].transpose(-1, -2)) / (head as f64).sqrt();
                    s.softmax(-1, Kind::Float).matmul(&parts[2]).transpose(1, 2).reshape([b, t, heads * head])
                };
                let qkv = leaf(&[b, t, 3 * heads * head], 0.7);
                agree("attention", &[qkv], &|v| attention(&v[0], heads, heads_first).unwrap(), &plain);
            }
        }
    }

    #[test]
    fn group_norm_equals_libtorch_with_two_derivatives() {
        // One pixel; odd sizes that reach the loops' tails; few and many pictures; one gain for all and one each.
        for (b, c, h, w, groups) in [(1, 4, 1, 2, 2), (2, 6, 3, 5, 3), (5, 40, 4, 3, 8), (3, 32, 8, 8, 32)] {
            for (lines, silu) in [(1, true), (b, true), (b, false)] {
                let last = |x: &Tensor| crate::channels_last(x).unwrap();
                let inputs = [leaf(&[b, c, h, w], 0.7), leaf(&[lines, c], 1.3), leaf(&[lines, c], 2.1)];
                let fused = |v: &[Tensor]| group_norm(&last(&v[0]), &v[1], &v[2], groups, 1e-5, silu).unwrap();
                assert!(crate::is_channels_last(&fused(&inputs)));
                agree("group norm", &inputs, &fused, &|v| {
                    let map = |t: &Tensor| t.unsqueeze(-1).unsqueeze(-1);
                    let n = v[0].group_norm(groups, None::<&Tensor>, None::<&Tensor>, 1e-5, true);
                    let y = n * map(&v[1]) + map(&v[2]);
                    if silu { y.silu() } else { y }
                });
            }
        }
    }

    /// What bf16 numbers give in f32, rounded once: values, and gradients of a weighted sum, in any mixture of kinds.
    fn rounds(name: &str, inputs: &[Tensor], kinds: &[Kind], out: Kind, f: &dyn Fn(&[Tensor]) -> Tensor) {
        let run = |wide: bool| {
            let cast = |(t, kind): (&Tensor, &Kind)| {
                let t = t.detach().to_kind(*kind);
                (if wide { t.to_kind(Kind::Float) } else { t }).set_requires_grad(true)
            };
            let all: Vec<Tensor> = inputs.iter().zip(kinds).map(cast).collect();
            let y = f(&all);
            let weights = Tensor::arange(y.numel() as i64, (Kind::Float, Device::Cpu)).cos().view(y.size().as_slice());
            // Both meet the same slopes, those that bf16 can hold.
            let slope = weights.to_kind(out).to_kind(y.kind());
            let grads = Tensor::run_backward(&[(&y * slope).to_kind(Kind::Float).sum(Kind::Float)], &all, false, false);
            let _guard = tch::no_grad_guard();
            (y.detach(), grads, f(&all))
        };
        let ((y, grads, alone), (want, want_grads, _)) = (run(false), run(true));
        assert!(y.kind() == out && y == alone && y == want.to_kind(out), "{name}");
        for ((g, want), kind) in grads.iter().zip(want_grads).zip(kinds) {
            assert!(g.kind() == *kind && *g == want.to_kind(*kind), "{name}: a gradient, {kind:?}");
        }
    }

    #[test]
    fn layers_in_bf16_are_the_f32_ones_rounded_once() {
        let (half, single) = (Kind::BFloat16, Kind::Float);
        // More than a strip, and no multiple of it.
        rounds("gelu", &[leaf(&[9001], 0.7)], &[half], half, &|v| gelu_tanh(&v[0]).unwrap());
        let (b, t, d) = (3, 70, 96);
        let rows = [leaf(&[b, t, d], 0.7), leaf(&[b, 3 * d], 1.3), leaf(&[b, t, d], 2.1)];
        let cut = |v: &[Tensor]| v[1].unsqueeze(1).chunk(3, -1);
        let norm = |v: &[Tensor]| adaln(&v[0], &cut(v)[0], &cut(v)[1], 1e-6).unwrap();
        let sum = |v: &[Tensor]| gated(&v[0], &cut(v)[2], &v[2]).unwrap();
        for x in [single, half] {
            rounds("adaln", &rows[..2], &[x, half], half, &norm);
            rounds("gated", &rows, &[x, half, half], x, &sum);
        }
        rounds("adaln of bf16 alone", &rows[..2], &[half, single], single, &norm);
        for heads_first in [false, true] {
            let mixed = |v: &[Tensor]| attention(&v[0], 3, heads_first).unwrap();
            rounds("attention", &[leaf(&[2, 17, 3 * 60], 0.7)], &[half], half, &mixed);
        }
    }

    #[test]
    fn group_norm_in_bf16_is_the_f32_one_rounded_once() {
        let x = crate::channels_last(&leaf(&[3, 16, 5, 4], 0.7)).unwrap().to_kind(Kind::BFloat16).detach();
        let (gain, offset) = (leaf(&[3, 16], 1.3).detach(), leaf(&[1, 16], 2.1).detach());
        let run = |x: &Tensor| {
            let x = x.detach().set_requires_grad(true);
            let y = group_norm(&x, &gain, &offset, 4, 1e-5, true).unwrap();
            let dx = Tensor::run_backward(&[y.to_kind(Kind::Float).sum(Kind::Float)], &[&x], false, false);
            (y.detach(), dx[0].shallow_clone())
        };
        let ((y, dx), (want, want_dx)) = (run(&x), run(&x.to_kind(Kind::Float)));
        assert_eq!((y.kind(), dx.kind()), (Kind::BFloat16, Kind::BFloat16));
        assert!(y == want.to_kind(Kind::BFloat16) && dx == want_dx.to_kind(Kind::BFloat16));
        let nan = Tensor::full([1, 4, 1, 1], f64::NAN, (Kind::BFloat16, Device::Cpu));
        let y =
            group_norm(&nan, &gain.narrow(0, 0, 1).narrow(1, 0, 4), &offset.narrow(1, 0, 4), 2, 1e-5, true).unwrap();
        assert!(bool::try_from(y.isnan().all()).unwrap());
    }

    #[test]
    fn what_the_kernels_do_not_reach_is_left_to_libtorch() {
        let double = Tensor::zeros([2, 3, 8], (Kind::Double, Device::Cpu));
        let float = double.to_kind(Kind::Float);
        let row = |kind| Tensor::zeros([2, 1, 8], (kind, Device::Cpu));
        assert!(gelu_tanh(&double).is_none() && gelu_tanh(&float).is_some());
        assert!(adaln(&float, &row(Kind::Float), &row(Kind::BFloat16), 1e-6).is_none());
        assert!(gated(&float.to_kind(Kind::BFloat16), &row(Kind::Float), &float).is_none(), "the sum would be f32");
        assert!(gated(&float, &row(Kind::Float).narrow(0, 0, 1), &float).is_none());
        assert!(attention(&Tensor::zeros([1, 300, 6], (Kind::Float, Device::Cpu)), 1, false).is_none());
        assert!(attention(&Tensor::zeros([1, 3, 10], (Kind::Float, Device::Cpu)), 1, false).is_none());
    }
}

//! Linear layers in f32, and in bf16 under autocast, and what is made of them, by products of our own on processors where those are the faster
//! ones; `None` where a layer is better composed of libtorch's operations. Second derivatives always run through those.
//!
//! In bf16 numbers and weights are rounded as autocast does, weights where they are laid out; sums are f32, with a bias that is not rounded,
//! and so are the slopes of weights and bias.

use crate::Shared;
use crate::fused::{made, takes};
use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::{Kind, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pshim_panels(w: *mut C_tensor, laid: *mut *mut C_tensor) -> c_int;
    fn pshim_own_products() -> c_int;
    fn pshim_own_bf16() -> c_int;
    fn pshim_own_kind() -> c_int;
    fn pshim_linear(x: *mut C_tensor, w: *mut C_tensor, b: *mut C_tensor, y: *mut *mut C_tensor) -> c_int;
    fn pshim_linear_frozen(
        x: *mut C_tensor,
        w: *mut C_tensor,
        laid: *mut C_tensor,
        bias: *mut C_tensor,
        y: *mut *mut C_tensor,
    ) -> c_int;
    fn pshim_strassen(
        w: *mut C_tensor,
        bias: *mut C_tensor,
        laid: *mut *mut C_tensor,
        moved: *mut *mut C_tensor,
    ) -> c_int;
    fn pshim_linear_strassen(
        x: *mut C_tensor,
        w: *mut C_tensor,
        laid: *mut C_tensor,
        moved: *mut C_tensor,
        bias: *mut C_tensor,
        y: *mut *mut C_tensor,
    ) -> c_int;
    fn pshim_perceptron(
        x: *mut C_tensor,
        layers: *const *mut C_tensor,
        n: usize,
        squash: i64,
        y: *mut *mut C_tensor,
    ) -> c_int;
    fn pshim_mlp_takes(rows: i64, width: i64) -> c_int;
    fn pshim_mlp(
        x: *mut C_tensor,
        w1: *mut C_tensor,
        b1: *mut C_tensor,
        w2: *mut C_tensor,
        b2: *mut C_tensor,
        y: *mut *mut C_tensor,
    ) -> c_int;
}

/// Whether products in f32 are better left to our own kernel than to libtorch's. That is so on processors with AVX2 that are not Intel's:
/// MKL orders a side anew for every product, which takes a tenth of the time where some hundred rows pass, and its kernels for other
/// makers' processors reach no higher rate than ours. On Intel's MKL is at home.
pub fn own_products() -> bool {
    // SAFETY: reads what the processor is.
    unsafe { pshim_own_products() != 0 }
}

/// Whether those in bf16 are: on such processors that multiply pairs of these numbers by an instruction of AVX-512. oneDNN orders both sides anew.
pub fn own_bf16() -> bool {
    // SAFETY: reads what the processor is.
    unsafe { pshim_own_bf16() != 0 }
}

/// The kind in which products are asked for on this thread, autocast's or f32, where those are our own.
pub(crate) fn own_kind() -> Option<Kind> {
    // SAFETY: reads what the processor is, and thread-local flags.
    match unsafe { pshim_own_kind() } {
        6 => Some(Kind::Float),
        15 => Some(Kind::BFloat16),
        _ => None,
    }
}

/// Rows from which on weights are laid out once for all of them; in f32 the rows are for the weights below.
fn many_rows(kind: Kind) -> i64 {
    if kind == Kind::BFloat16 { 64 } else { 256 }
}

/// Whether these are weights and bias of a linear layer, in f32 and row by row.
fn is_layer(weight: &Tensor, bias: &Tensor) -> bool {
    let single = [weight, bias].iter().all(|t| t.kind() == Kind::Float && t.is_contiguous());
    single && weight.numel() > 0 && matches!(weight.size()[..], [outputs, _] if bias.size() == [outputs])
}

/// Whether `x`, `[..., D]`, holds rows that a layer with these weights reads in this kind.
fn reads(kind: Kind, weight: &Tensor, x: &Tensor) -> bool {
    [Kind::Float, kind].contains(&x.kind()) && x.size().last() == weight.size().last() && x.numel() > 0
}

/// Whether a layer with these weights has products of this kind there and back: those of pairs want even numbers of inputs and outputs.
fn suits(kind: Kind, weight: &Tensor) -> bool {
    kind == Kind::Float || weight.size().iter().all(|n| n % 2 == 0)
}

/// A linear layer over many rows, 256 in f32 and 64 in bf16, there and back by products of our own where those are the faster ones. Sums are
/// those of [`Frozen`].
///
/// # Shapes
/// - `x`: `[..., D]`; `weight`: `[H, D]`; `bias`: `[H]`
/// - returns: `[..., H]`
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Option<Tensor> {
    let kind = own_kind()?;
    let fits = is_layer(weight, bias) && reads(kind, weight, x) && suits(kind, weight) && takes(&[x, weight, bias]);
    if !fits || rows_of(x) < many_rows(kind) {
        return None;
    }
    let [x, weight, bias] = [x, weight, bias].map(|t| t.as_ptr().cast_mut());
    // SAFETY: live tensors borrowed for the call, of the shapes the function reads.
    Some(made(|y| unsafe { pshim_linear(x, weight, bias, y) }))
}

fn rows_of(x: &Tensor) -> i64 {
    x.size().split_last().map_or(0, |(_, rows)| rows.iter().product())
}

/// The function between two layers of a [`perceptron`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squash {
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

/// Rows below which laying out the weights costs more than it spares.
const FEW_ROWS: i64 = 64;

/// Linear layers one after another with a function between them, over at least 64 rows, by products of our own where those are the
/// faster ones: some rows pass all layers on one thread, there and back, while what they are lies in its cache.
///
/// # Shapes
/// - `x`: `[N, D]`; `layers`: weights `[H, D]` and bias `[H]` of each
/// - returns: `[N, H]` of the last
pub fn perceptron(x: &Tensor, layers: &[[&Tensor; 2]], squash: Squash) -> Option<Tensor> {
    let kind = own_kind()?;
    let wanted = x.dim() == 2 && x.size()[0] >= FEW_ROWS;
    let ours = |[w, b]: &[&Tensor; 2]| is_layer(w, b) && suits(kind, w) && takes(&[w, b]);
    let chained = layers.windows(2).all(|l| l[1][0].size().last() == l[0][1].size().first());
    let fits = wanted
        && chained
        && layers.first().is_some_and(|l| reads(kind, l[0], x))
        && layers.iter().all(ours)
        && takes(&[x]);
    let p: Vec<_> = layers.iter().flatten().map(|t| t.as_ptr().cast_mut()).collect();
    let squash = match squash {
        Squash::Relu => 0,
        Squash::Tanh => 1,
    };
    // SAFETY: live tensors borrowed for the call, of the shapes the function reads.
    fits.then(|| made(|y| unsafe { pshim_perceptron(x.as_ptr().cast_mut(), p.as_ptr(), p.len(), squash, y) }))
}

/// Inputs and outputs from which on seven products of halves are worth what Strassen's way adds up.
const WIDE: i64 = 256;

/// Numbers that all layers that stand may lay out; later ones are laid out anew for every pass.
const MOST_LAID: usize = 1 << 28;

/// What a layer that stands has laid out; its weights and bias are kept so that their addresses stay theirs.
#[derive(Debug)]
struct Laid {
    _layer: [Tensor; 2],
    right: Right,
}

/// What layers that stand have laid out, by the addresses of weights and bias, and whether in bf16.
type AllLaid = HashMap<([usize; 2], bool), Laid>;

/// The right side of a layer's product as its kernel reads it.
#[derive(Debug)]
enum Right {
    /// Laid out once for all rows.
    Panels(Shared),
    /// For Strassen's product.
    Halves(Halves),
}

impl Right {
    fn panels(weight: &Tensor) -> Self {
        // SAFETY: a live tensor borrowed for the call, of the shape the function reads.
        Self::Panels(made(|y| unsafe { pshim_panels(weight.as_ptr().cast_mut(), y) }).into())
    }

    fn shared(&self) -> Self {
        match self {
            Self::Panels(laid) => Self::Panels(laid.shallow_clone().into()),
            Self::Halves(halves) => Self::Halves(halves.shared()),
        }
    }

    /// Numbers laid out.
    fn numel(&self) -> usize {
        match self {
            Self::Panels(laid) => laid.numel(),
            Self::Halves(halves) => halves.laid.numel(),
        }
    }
}

/// Weights for Strassen's product, and by how much the bias of the second half of outputs exceeds that of the first.
#[derive(Debug)]
struct Halves {
    laid: Shared,
    moved: Shared,
}

impl Halves {
    fn of(weight: &Tensor, bias: &Tensor) -> Self {
        let mut moved = std::ptr::null_mut();
        let [w, b] = [weight, bias].map(|t| t.as_ptr().cast_mut());
        // SAFETY: live tensors borrowed for the call, of the shapes the function reads.
        let laid = made(|laid| unsafe { pshim_strassen(w, b, laid, &mut moved) });
        // SAFETY: the call succeeded, so `moved` is a fresh tensor of its own.
        Self { laid: laid.into(), moved: unsafe { Tensor::from_ptr(moved) }.into() }
    }

    fn shared(&self) -> Self {
        Self { laid: self.laid.shallow_clone().into(), moved: self.moved.shallow_clone().into() }
    }
}

/// Where the layers of a network leave what they laid out while its weights stand; clones are one place.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Mutex<Option<AllLaid>>>);

/// Weights stand as long as it lives: whoever holds it changes none meanwhile. Passes without gradients then lay out wide layers once for all
/// of them, and multiply by them in Strassen's way where a sample's rows come in twos.
#[derive(Debug)]
pub struct Held {
    place: Standing,
    before: Option<AllLaid>,
}

impl Standing {
    /// Nothing is laid out before its first pass.
    pub fn hold(&self) -> Held {
        let before = self.all().replace(AllLaid::new());
        Held { place: self.clone(), before }
    }

    fn all(&self) -> MutexGuard<'_, Option<AllLaid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The layer as it stands in this kind, for samples of so many tokens; if it does.
    fn right(&self, kind: Kind, weight: &Tensor, bias: &Tensor, tokens: i64) -> Option<Right> {
        let in_halves = tokens % 2 == 0 && weight.size().iter().all(|n| *n >= WIDE && n % 2 == 0);
        let mut all = self.all();
        let all = all.as_mut().filter(|_| kind == Kind::BFloat16 || in_halves)?;
        let address = ([weight, bias].map(|t| t.data_ptr().addr()), kind == Kind::BFloat16);
        if !all.contains_key(&address) {
            let held: usize = all.values().map(|l| l.right.numel()).sum();
            if held + 2 * weight.numel() > MOST_LAID {
                return None;
            }
            let _layer = [weight, bias].map(Tensor::shallow_clone);
            let right = match kind {
                Kind::BFloat16 => Right::panels(weight),
                _ => Right::Halves(Halves::of(weight, bias)),
            };
            all.insert(address, Laid { _layer, right });
        }
        all.get(&address).map(|l| l.right.shared())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.place.all() = self.before.take();
    }
}

/// A linear layer of which nothing learns, by products of our own: [`linear`] for any number of rows in f32 and, where the weights stand
/// ([`Standing`]), in bf16, shared by threads. A sum does not depend on the number of rows; where f32 stands, a token's rounding depends on its
/// neighbour of the same sample.
///
/// # Source
/// Strassen, "Gaussian elimination is not optimal", 1969; in the form with fifteen sums that Winograd gave it (1971).
#[derive(Debug)]
pub struct Frozen {
    weight: Shared,
    bias: Shared,
    kind: Kind,
    right: Option<Right>,
    stands: bool,
}

impl Frozen {
    /// For `samples` times `tokens` rows of a network's layer, with weights `[H, D]` and bias `[H]` as they are now. `None` where [`linear`]
    /// gives nothing.
    pub fn new(weight: &Tensor, bias: &Tensor, [samples, tokens]: [i64; 2], standing: &Standing) -> Option<Self> {
        let kind = own_kind()?;
        let fits = is_layer(weight, bias) && suits(kind, weight) && takes(&[weight, bias]);
        let many = samples * tokens >= many_rows(kind);
        if !fits {
            return None;
        }
        let standing = standing.right(kind, weight, bias, tokens);
        let stands = standing.is_some();
        let right = standing.or_else(|| many.then(|| Right::panels(weight)));
        (kind == Kind::Float || right.is_some()).then(|| Self { stands, ..Self::with(kind, weight, bias, right) })
    }

    fn with(kind: Kind, weight: &Tensor, bias: &Tensor, right: Option<Right>) -> Self {
        let [weight, bias] = [weight, bias].map(|t| t.shallow_clone().into());
        Self { weight, bias, kind, right, stands: false }
    }

    /// Whether its weights stand, with which it is faster by itself than within a perceptron that lays them out for one pass.
    pub fn stands(&self) -> bool {
        self.stands
    }

    /// `x W^T + b` on the last axis, without a graph; `None` for what is not f32 on the processor, or bf16 under autocast.
    ///
    /// # Shapes
    /// - `x`: `[..., D]`, of a [`Standing`] layer `[..., T, D]`
    /// - returns: `[..., H]`
    pub fn linear(&self, x: &Tensor) -> Option<Tensor> {
        if own_kind().is_some_and(|kind| kind != self.kind) || !reads(self.kind, &self.weight, x) || !takes(&[x]) {
            return None;
        }
        let paired = matches!(x.size()[..], [.., _, tokens, _] if tokens % 2 == 0);
        let [x, weight, bias] = [x, &self.weight, &self.bias].map(|t| t.as_ptr().cast_mut());
        let panels = match &self.right {
            Some(Right::Halves(Halves { laid, moved })) if paired => {
                let [laid, moved] = [laid, moved].map(|t| t.as_ptr().cast_mut());
                // SAFETY: live tensors borrowed for the call, of the shapes the function reads.
                return Some(made(|y| unsafe { pshim_linear_strassen(x, weight, laid, moved, bias, y) }));
            }
            Some(Right::Panels(laid)) => laid.as_ptr().cast_mut(),
            _ => std::ptr::null_mut(),
        };
        // SAFETY: live tensors borrowed for the call, of the shapes and kinds the function reads; it takes null for no panels of f32.
        Some(made(|y| unsafe { pshim_linear_frozen(x, weight, panels, bias, y) }))
    }
}

/// Two linear layers with a GELU in its tanh form between them, for many rows, a few at a time: the sums of a layer at a time.
///
/// # Shapes
/// - `x`: `[..., D]`; `first`: weights `[H, D]` and bias `[H]`; `second`: `[D', H]` and `[D']`
/// - returns: `[..., D']`
pub fn mlp_gelu(x: &Tensor, first: [&Tensor; 2], second: [&Tensor; 2]) -> Option<Tensor> {
    let ([w1, b1], [w2, b2]) = (first, second);
    let all = [x, w1, b1, w2, b2];
    let kind = own_kind().unwrap_or(Kind::Float);
    let layers = is_layer(w1, b1) && is_layer(w2, b2) && w2.size().last() == b1.size().first();
    let fits = layers && reads(kind, w1, x) && suits(kind, w1) && suits(kind, w2);
    // SAFETY: reads thread-local flags.
    if !fits || !takes(&all) || unsafe { pshim_mlp_takes(rows_of(x), w1.size()[1]) } == 0 {
        return None;
    }
    let p = all.map(|t| t.as_ptr().cast_mut());
    // SAFETY: live tensors borrowed for the call, of the shapes the function reads.
    Some(made(|y| unsafe { pshim_mlp(p[0], p[1], p[2], p[3], p[4], y) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fused::tests::{agree, gap, leaf};
    use tch::Device;

    fn frozen(weight: &Tensor, bias: &Tensor, rows: i64) -> Frozen {
        Frozen::with(Kind::Float, weight, bias, (rows >= 256).then(|| Right::panels(weight)))
    }

    #[test]
    fn a_frozen_layer_has_the_same_sums_for_any_number_of_rows() {
        // Fewer numbers than a vector has, whole panels, ragged ones; depths of one part and of several.
        for (depth, outputs) in [(1, 1), (7, 5), (64, 48), (256, 57), (300, 24), (777, 200)] {
            let (w, b) = (leaf(&[outputs, depth], 1.3).detach(), leaf(&[outputs], 2.1).detach());
            let x = leaf(&[2, 150, depth], 0.7).detach();
            let many = frozen(&w, &b, 300);
            let y = many.linear(&x).unwrap();
            let double = |t: &Tensor| t.to_kind(Kind::Double);
            let want = double(&x).linear(&double(&w), Some(&double(&b)));
            // Rounding grows with the sum of magnitudes.
            let all = double(&x).abs().linear(&double(&w).abs(), Some(&double(&b).abs())).max().double_value(&[]);
            let gap = gap(&double(&y), &want);
            assert!(gap <= 1e-7 * all, "{depth} to {outputs}: {gap} of {all}");
            assert_eq!(frozen(&w, &b, 1).linear(&x).unwrap(), y, "{depth} to {outputs}, by the other side");
            for rows in [1, 3, 61] {
                let part = x.view([300, depth]).narrow(0, 11, rows);
                let want = y.view([300, outputs]).narrow(0, 11, rows);
                assert_eq!(many.linear(&part).unwrap(), want, "{rows} rows of {depth} to {outputs}");
                assert_eq!(
                    frozen(&w, &b, rows).linear(&part).unwrap(),
                    want,
                    "few: {rows} rows of {depth} to {outputs}"
                );
            }
            if let Some(own) = linear(&x, &w, &b) {
                assert_eq!(own, y, "{depth} to {outputs}, as if it learnt");
            }
        }
        let layer = frozen(&leaf(&[3, 4], 1.0).detach(), &leaf(&[3], 1.0).detach(), 1);
        let x = leaf(&[2, 5], 1.0).detach();
        assert!(layer.linear(&x).is_none() && layer.linear(&x.narrow(1, 0, 4).to_kind(Kind::Double)).is_none());
    }

    #[test]
    fn a_layer_in_halves_equals_its_product_and_keeps_samples_apart() {
        // Whole panels and ragged ones, halves of one part and of several.
        for (depth, outputs) in [(2, 2), (64, 48), (256, 256), (300, 102), (1030, 384)] {
            let (w, b) = (leaf(&[outputs, depth], 1.3).detach(), leaf(&[outputs], 2.1).detach());
            let x = leaf(&[9, 34, depth], 0.7).detach();
            let layer = Frozen::with(Kind::Float, &w, &b, Some(Right::Halves(Halves::of(&w, &b))));
            let y = layer.linear(&x).unwrap();
            let double = |t: &Tensor| t.to_kind(Kind::Double);
            let want = double(&x).linear(&double(&w), Some(&double(&b)));
            // Rounding of Strassen's product grows with the largest magnitudes of a block, not with those of one sum.
            let all = double(&x).abs().linear(&double(&w).abs(), Some(&double(&b).abs())).max().double_value(&[]);
            let gap = gap(&double(&y), &want);
            assert!(gap <= 4e-7 * all, "{depth} to {outputs}: {gap} of {all}");
            for samples in [1, 2, 5] {
                let part = layer.linear(&x.narrow(0, 3, samples)).unwrap();
                assert_eq!(part, y.narrow(0, 3, samples), "{samples} samples of {depth} to {outputs}");
            }
            // Rows that are no pairs of one sample.
            let plain = frozen(&w, &b, 300);
            let (odd, flat) = (x.narrow(1, 0, 33), x.view([-1, depth]));
            assert_eq!(layer.linear(&odd), plain.linear(&odd));
            assert_eq!(layer.linear(&flat), plain.linear(&flat));
        }
    }

    #[test]
    fn weights_stand_within_a_scope() {
        let [w, b] = [&[258, 256][..], &[258]].map(|size| leaf(size, 1.3).detach());
        let narrow = w.narrow(0, 0, 254).contiguous();
        let place = Standing::default();
        let layer = |w: &Tensor, tokens| Frozen::new(w, &b.narrow(0, 0, w.size()[0]), [10, tokens], &place);
        let halves = |tokens| layer(&w, tokens).is_some_and(|l| l.stands());
        assert!(!halves(4), "no scope");
        let scope = place.hold();
        assert_eq!(halves(4), own_products());
        assert!(!halves(5), "an odd number of tokens");
        assert!(!layer(&narrow, 4).is_some_and(|l| l.stands()), "narrow");
        let laid = || match layer(&w, 4)?.right? {
            Right::Panels(laid) | Right::Halves(Halves { laid, .. }) => Some(laid.data_ptr().addr()),
        };
        let first = laid();
        assert_eq!(first, laid(), "laid out once");
        {
            let _inner = place.clone().hold();
            assert!(first.is_none() || laid() != first, "a scope has its own");
        }
        assert_eq!(first, laid(), "and leaves the outer one's");
        drop(scope);
        assert!(!halves(4), "the scope is over");
    }

    #[test]
    fn a_linear_layer_of_many_rows_equals_libtorchs_with_two_derivatives() {
        // The last has more rows than are turned at a time for the slopes of weights, and more outputs.
        for (tokens, depth, outputs) in [(130, 8, 24), (130, 300, 7), (301, 5, 70)] {
            let inputs = [leaf(&[2, tokens, depth], 0.7), leaf(&[outputs, depth], 1.3) * 0.1, leaf(&[outputs], 2.1)];
            let plain = |v: &[Tensor]| v[0].linear(&v[1], Some(&v[2]));
            let own = |v: &[Tensor]| linear(&v[0], &v[1], &v[2]);
            assert_eq!(own(&inputs).is_some(), own_products(), "every maker's processor but Intel's");
            agree("linear layer", &inputs, &|v| own(v).unwrap_or_else(|| plain(v)), &plain);
        }
        let (w, b) = (leaf(&[3, 4], 1.0), leaf(&[3], 1.0));
        assert!(linear(&leaf(&[2, 4], 1.0), &w, &b).is_none(), "few rows");
        assert!(
            linear(&leaf(&[300, 4], 1.0), &leaf(&[4, 3], 1.0).tr(), &b).is_none(),
            "weights that do not lie row by row"
        );
    }

    #[test]
    fn layers_that_rows_pass_at_once_equal_libtorchs_with_two_derivatives() {
        for squash in [Squash::Relu, Squash::Tanh] {
            for widths in [&[9, 5][..], &[20, 57, 3], &[8, 300, 33, 24]] {
                let mut inputs = vec![leaf(&[71, widths[0]], 0.7)];
                for (i, w) in widths.windows(2).enumerate() {
                    inputs.push((leaf(&[w[1], w[0]], 1.3 + 0.1 * i as f64) * 0.2).detach().set_requires_grad(true));
                    inputs.push(leaf(&[w[1]], 2.1 + 0.1 * i as f64));
                }
                let layers = |v: &[Tensor]| -> Tensor {
                    v[1..].chunks(2).enumerate().fold(v[0].shallow_clone(), |h, (i, l)| {
                        let h = match (i, squash) {
                            (0, _) => h,
                            (_, Squash::Relu) => h.relu(),
                            (_, Squash::Tanh) => h.tanh(),
                        };
                        h.linear(&l[0], Some(&l[1]))
                    })
                };
                let parts = |v: &[Tensor]| -> Option<Tensor> {
                    let parts: Vec<[&Tensor; 2]> = v[1..].chunks(2).map(|l| [&l[0], &l[1]]).collect();
                    perceptron(&v[0], &parts, squash)
                };
                assert_eq!(parts(&inputs).is_some(), own_products());
                agree(&format!("{squash:?} {widths:?}"), &inputs, &|v| parts(v).unwrap_or_else(|| layers(v)), &layers);
                // Each slope alone is what it is beside the others.
                let Some(y) = parts(&inputs) else { continue };
                let slope = |of: &[&Tensor]| Tensor::run_backward(&[y.square().sum(Kind::Float)], of, true, false);
                let all: Vec<&Tensor> = inputs.iter().collect();
                for (x, beside) in inputs.iter().zip(slope(&all)) {
                    assert_eq!(slope(&[x])[0], beside);
                }
                inputs[0] = inputs[0].narrow(0, 0, 63);
                assert!(parts(&inputs).is_none(), "few rows");
            }
        }
    }

    #[test]
    fn a_perceptron_by_rows_equals_its_layers_with_two_derivatives() {
        // Shares of rows and a rest for every thread.
        let batch = 5 * i64::from(tch::get_num_threads());
        let inputs =
            [leaf(&[batch, 121, 8], 0.7), leaf(&[24, 8], 1.3), leaf(&[24], 2.1), leaf(&[6, 24], 0.9), leaf(&[6], 0.3)];
        let by_rows = |v: &[Tensor]| mlp_gelu(&v[0], [&v[1], &v[2]], [&v[3], &v[4]]);
        let layers = |v: &[Tensor]| v[0].linear(&v[1], Some(&v[2])).gelu("tanh").linear(&v[3], Some(&v[4]));
        agree("perceptron", &inputs, &|v| by_rows(v).unwrap_or_else(|| layers(v)), &layers);
        let y = by_rows(&inputs).unwrap();
        assert_eq!(y.size(), [batch, 121, 6]);
        // Each slope alone is what it is beside the others.
        let slope = |of: &[&Tensor]| Tensor::run_backward(&[y.square().sum(Kind::Float)], of, true, false);
        for (x, beside) in inputs.iter().zip(slope(&inputs.each_ref())) {
            assert_eq!(slope(&[x])[0], beside);
        }
        let turned = inputs[1].tr().contiguous().tr();
        assert_eq!(turned, inputs[1]);
        let square = leaf(&[8, 8], 1.0);
        assert!(
            mlp_gelu(&leaf(&[600, 8], 1.0), [&square, &square.get(0)], [&leaf(&[8, 7], 1.0), &square.get(0)]).is_none()
        );
        assert!(
            mlp_gelu(&leaf(&[9, 8], 1.0), [&square, &square.get(0)], [&square, &square.get(0)]).is_none(),
            "few rows"
        );
        assert!(mlp_gelu(&inputs[0], [&turned, &inputs[2]], [&inputs[3], &inputs[4]]).is_none(), "not row by row");
        for (kind, own) in [(Kind::BFloat16, own_bf16()), (Kind::Half, false)] {
            let _low = crate::Autocast::new(Device::Cpu, kind).unwrap();
            assert_eq!(by_rows(&inputs).is_some(), own, "{kind:?}");
            let [w, b] = [&inputs[1], &inputs[2]];
            let frozen = Frozen::new(w, b, [3, 100], &Standing::default());
            assert_eq!([linear(&inputs[0], w, b).is_some(), frozen.is_some()], [own; 2], "{kind:?}");
            let rows = inputs[0].flatten(0, 1);
            assert_eq!(perceptron(&rows, &[[w, b], [&inputs[3], &inputs[4]]], Squash::Relu).is_some(), own, "{kind:?}");
        }
    }

    /// Numbers that bf16 holds.
    fn rounded(size: &[i64], frequency: f64) -> Tensor {
        leaf(size, frequency).detach().to_kind(Kind::BFloat16).to_kind(Kind::Float).set_requires_grad(true)
    }

    /// Half a unit in the last place of bf16, of a number of magnitude 1.
    const HALF_PLACE: f64 = 1.0 / 256.0;

    #[test]
    fn a_linear_layer_in_bf16_rounds_its_result_alone() {
        if !own_bf16() {
            return;
        }
        let double = |t: &Tensor| t.detach().to_kind(Kind::Double);
        // Fewer numbers than a vector has, whole panels and ragged ones, a depth of one pair; more rows than are turned at a time, and an odd number.
        for (rows, depth, outputs) in [(64, 2, 2), (129, 6, 34), (301, 64, 48), (601, 300, 70), (1024, 256, 130)] {
            let (x, w, b) = (rounded(&[rows, depth], 0.7), rounded(&[outputs, depth], 1.3), leaf(&[outputs], 2.1));
            let layer = || {
                let _low = crate::Autocast::new(Device::Cpu, Kind::BFloat16).unwrap();
                let standing = Standing::default();
                let _held = standing.hold();
                let frozen = tch::no_grad(|| Frozen::new(&w, &b, [rows, 1], &standing).unwrap());
                assert!(frozen.stands());
                (linear(&x, &w, &b).unwrap(), tch::no_grad(|| frozen.linear(&x.narrow(0, 3, 5)).unwrap()))
            };
            let (y, few) = layer();
            assert_eq!((y.kind(), few), (Kind::BFloat16, y.narrow(0, 3, 5)), "any number of rows");
            let want = double(&x).linear(&double(&w), Some(&double(&b)));
            let off = |got: &Tensor, want: &Tensor, places: f64| {
                let room = want.abs() * (HALF_PLACE * places) + want.abs().max() * 2e-6;
                ((double(got) - want).abs() - room).max().double_value(&[])
            };
            assert!(off(&y, &want, 1.0) <= 0.0, "{depth} to {outputs}");
            let g = rounded(&[rows, outputs], 0.31).detach().to_kind(Kind::BFloat16);
            let slopes = Tensor::run_backward(&[(&y * &g).sum(Kind::Float)], &[&x, &w, &b], false, false);
            let kinds: Vec<Kind> = slopes.iter().map(Tensor::kind).collect();
            assert_eq!(kinds, [Kind::Float; 3]);
            let g = double(&g);
            for (i, (want, places)) in [
                (g.matmul(&double(&w)), 1.0),
                (g.tr().matmul(&double(&x)), 0.0),
                (g.sum_dim_intlist(0, false, Kind::Double), 0.0),
            ]
            .iter()
            .enumerate()
            {
                assert!(off(&slopes[i], want, *places) <= 0.0, "{depth} to {outputs}, slope {i}");
            }
        }
    }

    #[test]
    fn layers_in_bf16_equal_libtorchs_with_two_derivatives() {
        let low = |f: &dyn Fn() -> Option<Tensor>| {
            let _low = crate::Autocast::new(Device::Cpu, Kind::BFloat16).unwrap();
            f()
        };
        let v = [
            rounded(&[130, 24], 0.7),
            rounded(&[32, 24], 1.3),
            leaf(&[32], 2.1),
            rounded(&[10, 32], 0.9),
            leaf(&[10], 0.3),
        ];
        type Own<'a> = &'a dyn Fn(&[Tensor]) -> Option<Tensor>;
        type Between<'a> = &'a dyn Fn(&Tensor) -> Tensor;
        let layers: [(&str, Own<'_>, Between<'_>); 3] = [
            ("GELU", &|v| mlp_gelu(&v[0].repeat([8, 1]), [&v[1], &v[2]], [&v[3], &v[4]]), &|h| h.gelu("tanh")),
            ("tanh", &|v| perceptron(&v[0], &[[&v[1], &v[2]], [&v[3], &v[4]]], Squash::Tanh), &Tensor::tanh),
            ("logistic", &|v| linear(&linear(&v[0], &v[1], &v[2])?.sigmoid(), &v[3], &v[4]), &Tensor::sigmoid),
        ];
        for (name, own, between) in layers {
            let Some(_) = low(&|| own(&v)) else {
                assert!(!own_bf16());
                continue;
            };
            let all = |f: &dyn Fn(&[Tensor]) -> Tensor| {
                let y = f(&v).to_kind(Kind::Float);
                let first = Tensor::run_backward(&[y.square().sum(Kind::Float)], &v, true, true);
                let sum = first.iter().map(|g| g.square().sum(Kind::Float)).reduce(|a, b| a + b).unwrap();
                let second = Tensor::run_backward(&[sum], &v, false, false);
                std::iter::once(y).chain(first).chain(second).collect::<Vec<_>>()
            };
            let repeats = if name == "GELU" { 8 } else { 1 };
            let plain =
                all(&|v| between(&v[0].linear(&v[1], Some(&v[2]))).linear(&v[3], Some(&v[4])).repeat([repeats, 1]));
            for (i, (a, b)) in all(&|v| low(&|| own(v)).unwrap()).iter().zip(plain).enumerate() {
                let off = gap(a, &b) / b.abs().max().double_value(&[]);
                assert!(off < 0.03, "{name}, output {i}: {off}");
            }
        }
    }
}

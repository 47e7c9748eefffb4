//! What `tch` does not reach in libtorch, and nothing more: autocast with a device and a precision, the fused AdamW
//! step, updates over lists of tensors, the channels-last layout, and work shared out by samples.
//!
//! # Errors
//! Every function returns libtorch's own message as [`tch::TchError::Torch`].

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

mod conv3;
mod fused;
mod products;
mod shares;

pub use conv3::conv3;
pub use fused::{adaln, attention, bernoulli, gated, gaussian_at, gaussian_kl, gelu_tanh, group_norm};
pub use products::{Frozen, Held, Squash, Standing, linear, mlp_gelu, own_bf16, own_products, perceptron};
pub use shares::{Shared, by_samples};

use std::ffi::{CStr, c_char, c_int};
use tch::{Device, Kind, TchError, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pshim_error() -> *const c_char;
    fn pshim_autocast_push(device: c_int, kind: c_int, was_on: *mut c_int, was_kind: *mut c_int) -> c_int;
    fn pshim_autocast_pop(device: c_int, was_on: c_int, was_kind: c_int) -> c_int;
    fn pshim_fused_adamw(
        p: *const *mut C_tensor,
        g: *const *mut C_tensor,
        m: *const *mut C_tensor,
        v: *const *mut C_tensor,
        steps: *const *mut C_tensor,
        n: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
        grad_scale: *mut C_tensor,
        found_inf: *mut C_tensor,
    ) -> c_int;
    fn pshim_foreach_lerp(a: *const *mut C_tensor, b: *const *mut C_tensor, n: usize, weight: f64) -> c_int;
    fn pshim_foreach_mul(a: *const *mut C_tensor, n: usize, factor: f64) -> c_int;
    fn pshim_drop_grads(a: *const *mut C_tensor, n: usize) -> c_int;
    fn pshim_global_norm(a: *const *mut C_tensor, n: usize, out: *mut *mut C_tensor) -> c_int;
    fn pshim_channels_last(a: *mut C_tensor, out: *mut *mut C_tensor) -> c_int;
    fn pshim_is_channels_last(a: *mut C_tensor) -> c_int;
    fn pshim_grad_enabled() -> c_int;
    #[cfg(target_arch = "x86_64")]
    fn pshim_is_intels() -> c_int;
    fn pshim_cpu_capability() -> *const c_char;
    fn pshim_show_config() -> *const c_char;
}

fn check(code: c_int) -> Result<(), TchError> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the shim returns a pointer into a thread-local string that lives until the next failing call.
    let message = unsafe { CStr::from_ptr(pshim_error()) }.to_string_lossy().into_owned();
    Err(TchError::Torch(message))
}

fn pointers(tensors: &[Tensor]) -> Vec<*mut C_tensor> {
    tensors.iter().map(|t| t.as_ptr().cast_mut()).collect()
}

fn device_code(device: Device) -> c_int {
    match device {
        Device::Cuda(_) => 1,
        Device::Mps => 13,
        Device::Vulkan => 10,
        Device::Cpu => 0,
    }
}

/// Turns autocast on for this thread and one device, until dropped: matrix products and convolutions run in `kind`,
/// reductions stay in f32.
///
/// Guards nest and must be dropped in reverse order, which scopes do by themselves.
pub struct Autocast {
    device: c_int,
    was_on: c_int,
    was_kind: c_int,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Autocast {
    /// `kind` is [`Kind::BFloat16`], [`Kind::Half`], or [`Kind::Float`], which turns autocast off.
    pub fn new(device: Device, kind: Kind) -> Result<Self, TchError> {
        let code = match kind {
            Kind::Half => 5,
            Kind::BFloat16 => 15,
            _ => -1,
        };
        let (device, mut was_on, mut was_kind) = (device_code(device), 0, 0);
        // SAFETY: both out-pointers outlive the call.
        check(unsafe { pshim_autocast_push(device, code, &mut was_on, &mut was_kind) })?;
        Ok(Self { device, was_on, was_kind, _not_send: std::marker::PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: restores what `new` read on this same thread (the guard is not Send).
        unsafe { pshim_autocast_pop(self.device, self.was_on, self.was_kind) };
    }
}

/// Constants of one AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

/// One AdamW step over all parameters in one kernel, in place; increments every entry of `steps` (f32 scalars).
///
/// Gradients are first divided by `divisor`; where `skip` is 1 nothing changes. Both are f32 scalars on the device, so
/// clipping and the test for non-finite gradients need no pass over the gradients and no wait.
///
/// # Shapes
/// All five lists have the same length; entry i of `p`, `g`, `m`, `v` has the same shape and layout.
#[expect(clippy::too_many_arguments, reason = "the kernel's own list")]
pub fn fused_adamw(
    p: &[Tensor],
    g: &[Tensor],
    m: &[Tensor],
    v: &[Tensor],
    steps: &[Tensor],
    c: AdamW,
    divisor: &Tensor,
    skip: &Tensor,
) -> Result<(), TchError> {
    if [g.len(), m.len(), v.len(), steps.len()] != [p.len(); 4] {
        return Err(TchError::Torch(format!("fused_adamw: {} parameters, {} gradients", p.len(), g.len())));
    }
    if p.is_empty() {
        return Ok(());
    }
    // The counters advance here because the kernel reads them for its bias correction and leaves them alone.
    let advance = 1.0 - skip;
    for s in steps {
        let _ = s.shallow_clone().f_add_(&advance)?;
    }
    let (p, g, m, v, s) = (pointers(p), pointers(g), pointers(m), pointers(v), pointers(steps));
    // SAFETY: the lists have equal length and hold live tensors borrowed for the call.
    check(unsafe {
        pshim_fused_adamw(
            p.as_ptr(),
            g.as_ptr(),
            m.as_ptr(),
            v.as_ptr(),
            s.as_ptr(),
            p.len(),
            c.lr,
            c.beta1,
            c.beta2,
            c.weight_decay,
            c.eps,
            divisor.as_ptr().cast_mut(),
            skip.as_ptr().cast_mut(),
        )
    })
}

/// `a_i += weight * (b_i - a_i)` in place, for every i: the step of an exponential moving average.
pub fn foreach_lerp(a: &[Tensor], b: &[Tensor], weight: f64) -> Result<(), TchError> {
    if a.len() != b.len() {
        return Err(TchError::Torch(format!("foreach_lerp: {} against {} tensors", a.len(), b.len())));
    }
    if a.is_empty() {
        return Ok(());
    }
    let (pa, pb) = (pointers(a), pointers(b));
    // SAFETY: equal lengths, live tensors.
    check(unsafe { pshim_foreach_lerp(pa.as_ptr(), pb.as_ptr(), pa.len(), weight) })
}

/// `a_i *= factor` in place, for every i.
pub fn foreach_mul(a: &[Tensor], factor: f64) -> Result<(), TchError> {
    if a.is_empty() {
        return Ok(());
    }
    let pa = pointers(a);
    // SAFETY: live tensors borrowed for the call.
    check(unsafe { pshim_foreach_mul(pa.as_ptr(), pa.len(), factor) })
}

/// Leaves tensors without a gradient, so that the next backward pass hands its own over instead of adding it to zeros.
pub fn drop_grads(a: &[Tensor]) {
    let pa = pointers(a);
    // SAFETY: live tensors borrowed for the call.
    check(unsafe { pshim_drop_grads(pa.as_ptr(), pa.len()) }).unwrap_or_else(|e| panic!("dropping gradients: {e}"));
}

/// Euclidean norm of all entries of all tensors together, as a scalar tensor (no wait for the device).
pub fn global_norm(a: &[Tensor]) -> Result<Tensor, TchError> {
    let pa = pointers(a);
    let mut out = std::ptr::null_mut();
    // SAFETY: `out` receives a freshly allocated tensor that the returned value owns.
    check(unsafe { pshim_global_norm(pa.as_ptr(), pa.len(), &mut out) })?;
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// The same values stored channels-last. `[B, C, H, W]` only.
pub fn channels_last(a: &Tensor) -> Result<Tensor, TchError> {
    let mut out = std::ptr::null_mut();
    // SAFETY: as in `global_norm`.
    check(unsafe { pshim_channels_last(a.as_ptr().cast_mut(), &mut out) })?;
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// Whether a `[B, C, H, W]` tensor is stored channels-last.
pub fn is_channels_last(a: &Tensor) -> bool {
    // SAFETY: reads the layout of a live tensor.
    unsafe { pshim_is_channels_last(a.as_ptr().cast_mut()) != 0 }
}

/// Whether operations on this thread are recorded for gradients.
pub fn grad_enabled() -> bool {
    // SAFETY: reads a thread-local flag.
    unsafe { pshim_grad_enabled() != 0 }
}

/// The instruction set libtorch's kernels chose on this processor, such as `AVX512`.
pub fn cpu_capability() -> String {
    // SAFETY: a static, NUL-terminated string.
    unsafe { CStr::from_ptr(pshim_cpu_capability()) }.to_string_lossy().into_owned()
}

/// What products in bfloat16 are to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16 {
    /// Faster than single precision.
    Faster,
    /// Multiplied by instructions of its own, but more slowly: Intel's AVX-512 without tiles (AMX) does it at half the rate of f32.
    Slower,
    /// Put together from other instructions, which takes several times as long as single precision.
    Imitated,
}

/// What products in bfloat16 are to a device.
pub fn bf16(device: Device) -> Bf16 {
    match device {
        Device::Cuda(_) => Bf16::Faster,
        #[cfg(target_arch = "x86_64")]
        Device::Cpu => of_processor(std::arch::is_x86_feature_detected!("avx512bf16"), has_tiles(), is_intels()),
        _ => Bf16::Imitated,
    }
}

#[cfg(target_arch = "x86_64")]
fn of_processor(instruction: bool, tiles: bool, intels: bool) -> Bf16 {
    match (instruction, tiles || !intels) {
        (false, _) => Bf16::Imitated,
        (true, true) => Bf16::Faster,
        (true, false) => Bf16::Slower,
    }
}

/// CPUID leaf 7, bit 22 of EDX, and bits 17 and 18 of what the system lets programs use.
#[cfg(target_arch = "x86_64")]
fn has_tiles() -> bool {
    const TILES: u64 = 3 << 17;
    // SAFETY: the instruction is there where the feature is.
    let allowed =
        std::arch::is_x86_feature_detected!("xsave") && unsafe { std::arch::x86_64::_xgetbv(0) } & TILES == TILES;
    allowed && std::arch::x86_64::__cpuid_count(7, 0).edx & (1 << 22) != 0
}

/// Whether this is a processor of Intel's.
#[cfg(target_arch = "x86_64")]
fn is_intels() -> bool {
    // SAFETY: reads what the processor is.
    unsafe { pshim_is_intels() != 0 }
}

/// libtorch's description of its own build and of its threads.
pub fn show_config() -> String {
    // SAFETY: a static, NUL-terminated string.
    unsafe { CStr::from_ptr(pshim_show_config()) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn bf16_is_slower_on_intels_processors_without_tiles() {
        assert_eq!(of_processor(true, true, true), Bf16::Faster);
        assert_eq!(of_processor(true, false, true), Bf16::Slower);
        assert_eq!(of_processor(true, false, false), Bf16::Faster);
        assert_eq!([of_processor(false, true, true), of_processor(false, false, false)], [Bf16::Imitated; 2]);
        assert_eq!(bf16(Device::Cuda(0)), Bf16::Faster);
        // The kernel's view of the same processor.
        if let Ok(info) = std::fs::read_to_string("/proc/cpuinfo") {
            let has = |word: &str| info.split_whitespace().any(|w| w == word);
            assert_eq!((is_intels(), has_tiles()), (has("GenuineIntel"), has("amx_bf16")));
        }
    }

    /// Three hand-written AdamW steps in f64 against the fused kernel.
    #[test]
    fn fused_adamw_equals_the_formula() {
        let c = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, weight_decay: 0.01, eps: 1e-8 };
        let p = Tensor::from_slice(&[1.0_f32, -2.0]);
        let (m, v, s) = (p.zeros_like(), p.zeros_like(), Tensor::from(0.0_f32));
        let (mut pe, mut me, mut ve) = ([1.0_f64, -2.0], [0.0_f64; 2], [0.0_f64; 2]);
        for step in 1..=3 {
            let g = [0.5 * f64::from(step), -1.0];
            let gt = Tensor::from_slice(&[g[0] as f32, g[1] as f32]);
            let one = |t: &Tensor| vec![t.shallow_clone()];
            fused_adamw(
                &one(&p),
                &[gt],
                &one(&m),
                &one(&v),
                &one(&s),
                c,
                &Tensor::from(1.0_f32),
                &Tensor::from(0.0_f32),
            )
            .unwrap();
            for i in 0..2 {
                pe[i] *= 1.0 - c.lr * c.weight_decay;
                me[i] = c.beta1 * me[i] + (1.0 - c.beta1) * g[i];
                ve[i] = c.beta2 * ve[i] + (1.0 - c.beta2) * g[i] * g[i];
                let (mh, vh) = (me[i] / (1.0 - c.beta1.powi(step)), ve[i] / (1.0 - c.beta2.powi(step)));
                pe[i] -= c.lr * mh / (vh.sqrt() + c.eps);
            }
        }
        for (i, want) in pe.iter().enumerate() {
            assert!((p.double_value(&[i as i64]) - want).abs() < 1e-6, "{i}: {} {want}", p.double_value(&[i as i64]));
        }
    }

    #[test]
    fn lists_lerp_scale_and_norm() {
        let a = [Tensor::from_slice(&[3.0_f32]), Tensor::from_slice(&[0.0_f32, 4.0])];
        assert!((global_norm(&a).unwrap().double_value(&[]) - 5.0).abs() < 1e-6);
        foreach_lerp(&a, &[Tensor::from_slice(&[5.0_f32]), Tensor::from_slice(&[2.0_f32, 4.0])], 0.5).unwrap();
        assert_eq!(Vec::<f32>::try_from(&a[1]).unwrap(), [1.0, 4.0]);
        let x = Tensor::from_slice(&[2.0_f32]).set_requires_grad(true);
        x.square().sum(Kind::Float).backward();
        drop_grads(&[x.shallow_clone()]);
        assert!(!x.grad().defined());
        foreach_mul(&a, 2.0).unwrap();
        assert_eq!(Vec::<f32>::try_from(&a[0]).unwrap(), [8.0]);
    }

    #[test]
    fn autocast_changes_the_precision_and_restores_it() {
        let x = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
        {
            let _guard = Autocast::new(Device::Cpu, Kind::BFloat16).unwrap();
            assert_eq!(x.matmul(&x).kind(), Kind::BFloat16);
            {
                let _off = Autocast::new(Device::Cpu, Kind::Float).unwrap();
                assert_eq!(x.matmul(&x).kind(), Kind::Float);
            }
            assert_eq!(x.matmul(&x).kind(), Kind::BFloat16);
        }
        assert_eq!(x.matmul(&x).kind(), Kind::Float);
    }

    #[test]
    fn the_recording_of_gradients_is_seen() {
        assert!(grad_enabled());
        let _guard = tch::no_grad_guard();
        assert!(!grad_enabled());
    }

    #[test]
    fn channels_last_keeps_values_and_errors_are_returned() {
        let x = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([1, 2, 3, 4]);
        let y = channels_last(&x).unwrap();
        assert!(is_channels_last(&y) && !is_channels_last(&x) && x == y);
        assert!(channels_last(&Tensor::from(1.0_f32)).is_err());
    }
}

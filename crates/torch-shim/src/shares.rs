//! Work shared out by samples: a whole block of a network for a few of them at a time, each share on one of libtorch's own threads.
//!
//! A layer at a time over a whole batch writes every intermediate to memory and reads it back, and waits for all threads after each
//! operation. A share of few samples stays in its thread's cache from the first layer of a block to the last.

use crate::{check, grad_enabled};
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use tch::{Device, Tensor};

unsafe extern "C" {
    fn pshim_shares(n: i64, few: i64, work: extern "C" fn(*mut c_void, i64, i64), with: *mut c_void) -> c_int;
}

/// A tensor that threads may read side by side, such as the weight of a layer.
#[derive(Debug)]
pub struct Shared(Tensor);

impl From<Tensor> for Shared {
    fn from(tensor: Tensor) -> Self {
        Self(tensor)
    }
}

impl Deref for Shared {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}

// SAFETY: libtorch counts references atomically, and its operations do not write their inputs. `tch` tensors are `Send` with handles that
// share storage, so whoever writes in place already answers for who reads meanwhile.
unsafe impl Sync for Shared {}

/// A layer over the same samples of several tensors.
type Layer<'a> = &'a (dyn Fn(&[Tensor]) -> Tensor + Sync);

/// What the trampoline is handed: the layer, what it reads, where its results belong, and the first panic of any thread.
struct Job<'a> {
    layer: Layer<'a>,
    inputs: Vec<Shared>,
    out: Shared,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    fn share(&self, first: i64, count: i64) {
        let parts: Vec<Tensor> = self.inputs.iter().map(|t| t.narrow(0, first, count)).collect();
        self.out.narrow(0, first, count).copy_(&(self.layer)(&parts));
    }
}

extern "C" fn share(job: *mut c_void, first: i64, count: i64) {
    // SAFETY: `by_samples` passes a live `Job`, which is `Sync`, and libtorch returns before it ends.
    let job = unsafe { &*job.cast::<Job<'_>>() };
    // A panic must not cross the C++ frames between here and the caller.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job.share(first, count))) {
        job.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
    }
}

/// `layer` over at most `few` samples at a time, on libtorch's own threads and under this thread's modes (autocast among them); within a
/// share every operation runs on one thread. `None`, and nothing done, where gradients are recorded, off the processor, or where there
/// are not enough samples to share out: then the layer takes all of them at once.
///
/// # Shapes
/// - `inputs`: `[B, ...]` each, of which `layer` sees the same samples
/// - returns: shape and kind of the first input, which `layer` must keep
///
/// # Panics
/// Where `layer` did, with what it said.
pub fn by_samples(inputs: &[&Tensor], few: i64, layer: Layer<'_>) -> Option<Tensor> {
    let first = inputs.first()?;
    let samples = *first.size().first()?;
    if grad_enabled()
        || first.device() != Device::Cpu
        || !worth_sharing(samples, few.max(1), tch::get_num_threads().into())
    {
        return None;
    }
    let out = first.empty_like();
    let inputs = inputs.iter().map(|t| t.shallow_clone().into()).collect();
    let job = Job { layer, inputs, out: out.shallow_clone().into(), panic: Mutex::new(None) };
    let with = std::ptr::from_ref(&job).cast_mut().cast();
    // SAFETY: `job` outlives the call, and its shares write disjoint samples of `out`.
    check(unsafe { pshim_shares(samples, few.max(1), share, with) })
        .unwrap_or_else(|e| panic!("shares of a batch: {e}"));
    if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
    Some(out)
}

/// Whether every thread has at least half a share, and none waits more than a tenth of the time for the one with a sample more.
fn worth_sharing(samples: i64, few: i64, threads: i64) -> bool {
    let most = (samples + threads - 1).div_euclid(threads);
    samples >= 2 * few && 2 * most >= few && samples * 10 >= most * threads * 9
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    fn samples(n: i64) -> Tensor {
        Tensor::arange(n, (Kind::Float, Device::Cpu)).view([n, 1]).expand([n, 3], false).contiguous()
    }

    #[test]
    fn every_sample_passes_once_under_the_modes_of_the_caller() {
        let layer: Layer<'_> = &|part| {
            assert!(part[0].size()[0] <= 3 && !grad_enabled());
            &part[0] * 2.0 + &part[1]
        };
        let _guard = tch::no_grad_guard();
        let threads = i64::from(tch::get_num_threads());
        for n in [6 * threads, 7 * threads, 20 * threads - 1] {
            let (x, moved) = (samples(n), samples(n).narrow(1, 0, 1) + 1.0);
            assert_eq!(by_samples(&[&x, &moved], 3, layer).unwrap(), &x * 2.0 + &moved, "{n} samples");
        }
        assert!(by_samples(&[&samples(5)], 3, layer).is_none(), "less than two shares");
        {
            let _bf16 = crate::Autocast::new(Device::Cpu, Kind::BFloat16).unwrap();
            let product: Layer<'_> = &|part| {
                let y = part[0].matmul(&Tensor::ones([3, 3], (Kind::Float, Device::Cpu)));
                assert_eq!(y.kind(), Kind::BFloat16);
                y
            };
            assert!(by_samples(&[&samples(6 * threads)], 3, product).is_some());
        }
        let x = samples(6 * threads);
        assert!(tch::with_grad(|| by_samples(&[&x], 3, layer)).is_none(), "gradients would be lost");
    }

    #[test]
    fn no_thread_waits_long_for_another() {
        assert!(
            worth_sharing(64, 4, 2) && worth_sharing(64, 4, 16) && worth_sharing(8, 4, 1) && worth_sharing(19, 1, 2)
        );
        assert!(!worth_sharing(3, 1, 2), "two samples beside one");
        assert!(!worth_sharing(17, 1, 16) && !worth_sharing(16, 8, 16), "too few for so many threads");
    }

    #[test]
    fn a_panic_in_a_share_is_one_of_the_caller() {
        let layer: Layer<'_> = &|part| {
            assert!(part[0].double_value(&[0, 0]) < 4.0, "beyond the fourth");
            part[0].shallow_clone()
        };
        let x = samples(8 * i64::from(tch::get_num_threads()));
        let panic = tch::no_grad(|| catch_unwind(AssertUnwindSafe(|| by_samples(&[&x], 2, layer)))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"beyond the fourth"));
    }
}

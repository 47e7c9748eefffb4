//! Work shared out by samples: a whole block of a network for a few of them at a time, each share on one of libtorch's own threads.
//!
//! A layer at a time over a whole batch writes every intermediate to memory and reads it back, and waits for all threads after each
//! operation. A share of few samples stays in its thread's cache from the first layer of a block to the last.

use crate::check;
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

unsafe extern "C" {
    fn pshim_shares(n: i64, few: i64, work: extern "C" fn(*mut c_void, i64, i64), with: *mut c_void) -> c_int;
}

/// What the trampoline is handed: the work, and the first panic of any thread.
struct Job<'a> {
    work: &'a dyn Fn(i64, i64),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

extern "C" fn share(job: *mut c_void, first: i64, count: i64) {
    // SAFETY: `shares` passes a live `Job`, and libtorch returns before it ends.
    let job = unsafe { &*job.cast::<Job<'_>>() };
    // A panic must not cross the C++ frames between here and the caller.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.work)(first, count))) {
        job.panic.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(panic);
    }
}

/// Calls `work(first, count)` for consecutive shares of at most `few` of `n` samples, on libtorch's own threads, with this thread's
/// modes (no gradients, autocast). Within a share every operation runs on one thread.
///
/// # Safety
/// `work` runs on several threads at once: it may read tensors that nobody writes meanwhile, and write only what belongs to its own
/// share, and must own or borrow nothing else that is bound to a thread.
///
/// # Panics
/// Where `work` did, with what it said.
pub unsafe fn shares(n: i64, few: i64, work: &dyn Fn(i64, i64)) {
    let job = Job { work, panic: Mutex::new(None) };
    let with = std::ptr::from_ref(&job).cast_mut().cast();
    // SAFETY: `job` outlives the call; the caller answers for `work` on other threads.
    check(unsafe { pshim_shares(n, few.max(1), share, with) }).unwrap_or_else(|e| panic!("shares of a batch: {e}"));
    if let Some(panic) = job.panic.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn every_sample_is_in_one_share_under_the_modes_of_the_caller() {
        for (n, few) in [(0, 3), (1, 3), (10, 3), (12, 3), (5, 1)] {
            let seen: Vec<AtomicI64> = (0..n).map(|_| AtomicI64::new(0)).collect();
            let _guard = tch::no_grad_guard();
            let work = |first: i64, count: i64| {
                assert!((1..=few).contains(&count) && !crate::grad_enabled());
                (first..first + count).for_each(|i| _ = seen[i as usize].fetch_add(1, Ordering::Relaxed));
            };
            // SAFETY: the closure holds atomics and numbers.
            unsafe { shares(n, few, &work) };
            assert!(seen.iter().all(|s| s.load(Ordering::Relaxed) == 1), "{n} by {few}");
        }
    }

    #[test]
    fn a_panic_in_a_share_is_one_of_the_caller() {
        let work = |first: i64, _: i64| assert!(first < 4, "share at {first}");
        // SAFETY: the closure holds nothing.
        let panic = catch_unwind(|| unsafe { shares(8, 2, &work) }).unwrap_err();
        assert!(panic.downcast_ref::<String>().is_some_and(|text| text.starts_with("share at")));
    }
}

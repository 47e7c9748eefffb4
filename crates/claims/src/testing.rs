//! What the tests of pages stand on.

use crate::{Context, Error, Metrics, Store};
use pentimento_core::exact::value;
use pentimento_core::{At, Batch, Draws, HostBatch, Learner, Stream};
use pentimento_train::{Monitor, State, TrainTable};
use tch::{Device, Tensor};

/// A batch of noise on the CPU.
pub fn noisy(n: usize, shape: [usize; 3]) -> Batch {
    host(n, shape).upload(Device::Cpu)
}

/// The same with what a learner draws for its loss, times and noise above all; all of one class, if any.
pub fn noised(learner: &dyn Learner, n: usize, shape: [usize; 3], class: Option<i64>) -> Batch {
    let mut host = HostBatch { y: class.map_or_else(Vec::new, |y| vec![y; n]), ..host(n, shape) };
    if let Some(draw) = learner.draw() {
        draw.draw(&mut host, 0);
    }
    host.upload(Device::Cpu)
}

#[expect(clippy::cast_possible_truncation, reason = "f64 to f32")]
fn host(n: usize, [c, h, w]: [usize; 3]) -> HostBatch {
    let index: Vec<u64> = (0..n as u64).collect();
    let mut draws = Draws::at(0, 0, 0, Stream::Own);
    let x = (0..n * c * h * w).map(|_| (2.0 * draws.uniform() - 1.0) as f32).collect();
    HostBatch { x, shape: [n, c, h, w], index, ..HostBatch::default() }
}

/// One step of a learner at a rate: the loss, and the largest change of a parameter.
pub fn try_step(learner: &mut dyn Learner, batch: &Batch, lr: f64) -> [f64; 2] {
    let length = batch.len();
    let mut state = State::new(learner, &TrainTable::new(length as u64, length, lr));
    state.optimisers.lr = lr;
    let all = |l: &dyn Learner| -> Vec<Tensor> {
        l.params().iter().flat_map(|(_, p)| p.entries()).map(|e| e.tensor.flatten(0, -1).copy()).collect()
    };
    let before = Tensor::cat(&all(learner), 0);
    let terms = learner.step(batch, &At { seed: 0, step: 0, images: 0 }, &mut state.optimisers);
    let moved = (before - Tensor::cat(&all(learner), 0)).abs().max();
    [value(&terms.total()), value(&moved)]
}

/// A context: in memory, silent, at full length.
pub fn try_run(
    run: impl Fn(&mut Context) -> Result<Metrics, Error>,
    seed: u64,
    monitor: &mut dyn Monitor,
) -> Result<Metrics, Error> {
    let store = Store::memory();
    run(&mut Context { seed, device: Device::Cpu, share: 1.0, store: &store, page: "", data: &[], monitor })
}

//! Batches made by worker threads. Batch k of a run is a function of (seed, number of its first sample) alone: one worker
//! or eight, from the start or after a resume, the batches are the same bits.

use crate::transform::Augment;
use crate::{Dataset, Error};
use pentimento_core::{Draw, Draws, HostBatch, Stream};
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Settings of a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Images per batch.
    pub batch: usize,
    /// Key of order, augmentation and the loss's own draws.
    pub seed: u64,
    /// Threads.
    pub workers: usize,
    /// A new permutation each epoch; otherwise in order, over and over.
    pub shuffle: bool,
    /// Random changes.
    pub augment: Augment,
}

/// An endless stream of batches.
pub struct Loader {
    requests: Vec<SyncSender<u64>>,
    answers: Vec<Receiver<Result<HostBatch, Error>>>,
    waiting: VecDeque<usize>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
    batch: u64,
    turn: usize,
}

/// Batches made ahead by each worker.
const AHEAD: usize = 2;

impl Loader {
    /// Starts the threads; the first batch begins with sample `first`.
    ///
    /// # Errors
    /// An empty data set.
    pub fn new(
        data: Arc<dyn Dataset>,
        config: LoaderConfig,
        draw: Option<Arc<dyn Draw>>,
        first: u64,
    ) -> Result<Self, Error> {
        if data.is_empty() || config.batch == 0 {
            return Err(Error::bad(
                "the data",
                "has no items to make batches of; check data.limit and data.validation",
            ));
        }
        let mut this = Self {
            requests: Vec::new(),
            answers: Vec::new(),
            waiting: VecDeque::new(),
            threads: Vec::new(),
            next: first,
            batch: config.batch as u64,
            turn: 0,
        };
        for _ in 0..config.workers.max(1) {
            let (ask, asked) = sync_channel::<u64>(AHEAD);
            let (answer, answers) = sync_channel(AHEAD);
            let (data, draw) = (data.clone(), draw.clone());
            let work = move || {
                let mut order = Order::default();
                for first in asked {
                    // A panic must reach the caller as this batch's answer: the thread's end alone would not say why.
                    let work = AssertUnwindSafe(|| make(data.as_ref(), &config, draw.as_deref(), first, &mut order));
                    let made =
                        catch_unwind(work).unwrap_or_else(|panic| Err(Error::Thread { why: words(panic.as_ref()) }));
                    if answer.send(made).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name("loader".into()).spawn(work);
            this.threads.push(thread.map_err(|e| Error::Thread { why: e.to_string() })?);
            this.requests.push(ask);
            this.answers.push(answers);
        }
        for _ in 0..AHEAD * this.requests.len() {
            this.ask()?;
        }
        Ok(this)
    }

    fn ask(&mut self) -> Result<(), Error> {
        let worker = self.turn;
        self.turn = (self.turn + 1) % self.requests.len();
        self.requests[worker].send(self.next).map_err(|e| Error::Thread { why: e.to_string() })?;
        self.waiting.push_back(worker);
        self.next += self.batch;
        Ok(())
    }

    /// The next batch.
    ///
    /// # Errors
    /// An item that cannot be read.
    #[expect(clippy::should_implement_trait, reason = "endless, and each batch may fail on its own")]
    pub fn next(&mut self) -> Result<HostBatch, Error> {
        let worker = self.waiting.pop_front().unwrap_or(0);
        let batch = self.answers[worker].recv().map_err(|e| Error::Thread { why: e.to_string() })??;
        self.ask()?;
        Ok(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.requests.clear();
        self.answers.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
}

/// The permutation of the epoch at hand; each worker keeps its own.
#[derive(Default)]
struct Order {
    epoch: Option<u64>,
    items: Vec<usize>,
}

/// Sets up to this size are shuffled with a table, larger ones by a cipher without memory.
const TABLE: u64 = 1 << 22;

impl Order {
    fn item(&mut self, seed: u64, epoch: u64, place: u64, n: u64) -> u64 {
        if n > TABLE {
            return cipher(seed, epoch, place, n);
        }
        if self.epoch != Some(epoch) {
            let key = u32::try_from(epoch & 0xFFFF_FFFF).unwrap_or(0);
            self.items = Draws::at(seed, epoch >> 32, key, Stream::Order).permutation(usize::try_from(n).unwrap_or(0));
            self.epoch = Some(epoch);
        }
        self.items[usize::try_from(place).unwrap_or(0)] as u64
    }
}

/// A permutation of 0..n without a table: a four-round Feistel network on the next even number of bits, walked along its
/// cycle until it falls below n.
fn cipher(seed: u64, epoch: u64, place: u64, n: u64) -> u64 {
    let half = (64 - (n - 1).leading_zeros()).div_ceil(2);
    let mask = (1_u64 << half) - 1;
    let round = |right: u64, r: u32| {
        let key = u32::try_from(epoch & 0x0FFF_FFFF).unwrap_or(0) << 4 | r;
        u64::from(Draws::at(seed, right, key, Stream::Order).bits()) & mask
    };
    let mut x = place;
    loop {
        let (mut left, mut right) = (x >> half, x & mask);
        for r in 0..4 {
            (left, right) = (right, left ^ round(right, r));
        }
        x = left << half | right;
        if x < n {
            return x;
        }
    }
}

fn make(
    data: &dyn Dataset,
    config: &LoaderConfig,
    draw: Option<&dyn Draw>,
    first: u64,
    order: &mut Order,
) -> Result<HostBatch, Error> {
    let [c, h, w] = data.shape();
    let (n, per, f) = (data.len(), c * h * w, data.factors().len());
    let mut batch = HostBatch {
        x: vec![0.0; config.batch * per],
        shape: [config.batch, c, h, w],
        factors: vec![0.0; config.batch * f],
        n_factors: f,
        first,
        ..HostBatch::default()
    };
    for row in 0..config.batch {
        let position = first + row as u64;
        let (epoch, place) = (position.div_euclid(n), position % n);
        let i = if config.shuffle { order.item(config.seed, epoch, place, n) } else { place };
        let x = &mut batch.x[row * per..(row + 1) * per];
        let label = data.item(i, x, &mut batch.factors[row * f..(row + 1) * f])?;
        config.augment.apply(x, [c, h, w], config.seed, position);
        if !data.classes().is_empty() {
            batch.y.push(label);
        }
        batch.index.push(i);
    }
    if let Some(draw) = draw {
        draw.draw(&mut batch, config.seed);
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digits::digits;

    struct Noise;
    impl Draw for Noise {
        fn draw(&self, b: &mut HostBatch, seed: u64) {
            b.eps = vec![0.0; b.x.len()];
            let per = b.x.len().div_euclid(b.len());
            for (row, eps) in b.eps.chunks_mut(per).enumerate() {
                Draws::at(seed, b.first + row as u64, 0, Stream::Eps).fill_normal(eps);
            }
        }
    }

    fn batches(workers: usize, first: u64, count: usize) -> Vec<HostBatch> {
        let augment = Augment { flip: true, shift: 1 };
        let config = LoaderConfig { batch: 100, seed: 5, workers, shuffle: true, augment };
        let mut loader = Loader::new(Arc::new(digits()), config, Some(Arc::new(Noise)), first).unwrap();
        (0..count).map(|_| loader.next().unwrap()).collect()
    }

    #[test]
    fn batches_do_not_depend_on_workers_or_on_where_the_run_began() {
        let one = batches(1, 0, 40);
        assert_eq!(one, batches(2, 0, 40));
        assert_eq!(one, batches(4, 0, 40));
        assert_eq!(one[23..], batches(2, 2300, 17));
    }

    #[test]
    fn an_epoch_shows_every_item_once_in_a_new_order() {
        let all: Vec<u64> = batches(2, 0, 36).into_iter().flat_map(|b| b.index).collect();
        let (first, second) = (all[..1797].to_vec(), all[1797..3594].to_vec());
        assert_ne!(first, second);
        for mut epoch in [first, second] {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..1797).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_cipher_permutes_without_a_table() {
        for n in [1_u64, 2, 100, 1000, 4097] {
            let mut seen: Vec<u64> = (0..n).map(|p| cipher(3, 1, p, n)).collect();
            if n == 1000 {
                assert_ne!(seen, (0..n).map(|p| cipher(3, 2, p, n)).collect::<Vec<_>>());
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..n).collect::<Vec<_>>(), "n = {n}");
        }
    }

    struct Broken;
    impl Dataset for Broken {
        fn len(&self) -> u64 {
            9
        }
        fn shape(&self) -> [usize; 3] {
            [1, 1, 1]
        }
        fn classes(&self) -> &[String] {
            &[]
        }
        fn factors(&self) -> &[String] {
            &[]
        }
        fn item(&self, i: u64, _: &mut [f32], _: &mut [f32]) -> Result<i64, Error> {
            match i {
                7 => Err(Error::bad("item 7", "is broken")),
                8 => panic!("a defect at item {i}"),
                _ => Ok(0),
            }
        }
        fn fingerprint(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn a_broken_item_is_an_error_and_the_threads_end() {
        let config = LoaderConfig { batch: 3, seed: 0, workers: 2, shuffle: false, augment: Augment::default() };
        let mut loader = Loader::new(Arc::new(Broken), config, None, 0).unwrap();
        assert!(loader.next().is_ok() && loader.next().is_ok());
        assert_eq!(loader.next().unwrap_err().to_string(), "item 7: is broken");
    }

    #[test]
    fn a_panic_on_a_thread_is_an_error_with_its_words() {
        let config = LoaderConfig { batch: 1, seed: 0, workers: 2, shuffle: false, augment: Augment::default() };
        let mut loader = Loader::new(Arc::new(Broken), config, None, 8).unwrap();
        let said = loader.next().unwrap_err().to_string();
        assert!(said.contains("a defect at item 8"), "{said}");
        assert_eq!(loader.next().unwrap().index, [0]);
    }

    /// Drops the label of a sample by its number in the order of training.
    struct Dropout;
    impl Draw for Dropout {
        fn draw(&self, b: &mut HostBatch, seed: u64) {
            for (row, y) in b.y.iter_mut().enumerate() {
                if Draws::at(seed, b.first + row as u64, 0, Stream::Drop).uniform() < 0.3 {
                    *y = pentimento_core::NO_LABEL;
                }
            }
        }
    }

    #[test]
    fn labels_are_dropped_by_address_whatever_the_batch_size() {
        let labels = |batch: usize, workers| -> Vec<i64> {
            let config = LoaderConfig { batch, seed: 5, workers, shuffle: true, augment: Augment::default() };
            let mut loader = Loader::new(Arc::new(digits()), config, Some(Arc::new(Dropout)), 30).unwrap();
            (0..600_usize.div_euclid(batch)).flat_map(|_| loader.next().unwrap().y).collect()
        };
        let all = labels(100, 1);
        assert_eq!(all, labels(20, 4));
        let dropped = all.iter().filter(|&&y| y == pentimento_core::NO_LABEL).count();
        assert!((140..220).contains(&dropped), "{dropped}");
    }
}

//! Row 6: views of pictures from files, and the step of BYOL on them with all that it takes.

use crate::ask::{Ask, Work, input, inputs, read, waited};
use crate::networks::CHECKED_STEPS;
use anyhow::{Context, Result};
use pentimento_claims::{Budget, Lesson};
use pentimento_core::optim::Optimisers;
use pentimento_core::{At, Batch, Learner, Noise};
use pentimento_data::{Augment, Dataset, Loader, LoaderConfig, Open};
use pentimento_io::safetensors::{self, Metadata};
use pentimento_io::{Array, Values};
use pentimento_methods::find;
use pentimento_nn::Views;
use pentimento_nn::weights::load_params;
use pentimento_train::State;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// One pass over a folder of PNG files, from the start of the workers to their end.
struct Files {
    data: Arc<dyn Dataset>,
    config: LoaderConfig,
    batches: u64,
    device: Device,
}

impl Files {
    fn new(ask: &Ask) -> Result<Self> {
        let path = ask.folder.join("png");
        let data = pentimento_data::open(&path.to_string_lossy(), &Open::default())?.data;
        let batch = usize::try_from(ask.batch)?;
        let batches = data.len().div_euclid(batch.max(1) as u64);
        let config = LoaderConfig { batch, seed: 0, workers: 2, shuffle: true, augment: Augment::default() };
        Ok(Self { data, config, batches, device: ask.device()? })
    }

    fn pass(&self, see: &mut dyn FnMut(&Batch)) -> Result<()> {
        let mut loader = Loader::new(self.data.clone(), self.config, None, 0)?;
        for _ in 0..self.batches {
            see(&loader.next()?.upload(self.device));
        }
        Ok(())
    }
}

/// Two views of every picture.
pub struct Seeing {
    files: Files,
    passes: u64,
}

impl Seeing {
    /// Of the files that the peer's side wrote.
    pub fn new(ask: &Ask) -> Result<Self> {
        Ok(Self { files: Files::new(ask)?, passes: 0 })
    }

    fn pass(&mut self, see: &mut dyn FnMut(&[Tensor; 2])) -> Result<()> {
        self.passes += 1;
        let (views, seed) = (Views::default(), self.passes);
        self.files.pass(&mut |batch| {
            let noise = Noise::new(seed, batch.index.clone());
            see(&[0, 1].map(|k| views.draw(&batch.x, &noise.at_step(k))));
        })
    }
}

impl Work for Seeing {
    fn run(&mut self) -> Result<()> {
        self.pass(&mut |_| ())?;
        waited(self.files.device);
        Ok(())
    }

    /// Mean and mean square of all values of one pass: views are drawn at random, so their moments are what can agree.
    fn check(&mut self) -> Result<Vec<f64>> {
        let (mut sums, mut n) = ([0.0, 0.0], 0.0);
        self.pass(&mut |views| {
            for x in views {
                sums[0] += x.sum(Kind::Double).double_value(&[]);
                sums[1] += x.square().sum(Kind::Double).double_value(&[]);
                n += x.numel() as f64;
            }
        })?;
        Ok(sums.map(|s| s / n).to_vec())
    }
}

/// The page's own learner, from files to moved weights.
pub struct Byol {
    ask: Ask,
    files: Files,
    learner: Box<dyn Learner>,
    state: State,
    at: At,
}

impl Byol {
    /// At the row's widths, with the shared weights.
    pub fn new(ask: &Ask) -> Result<Self> {
        let (learner, state) = learner(ask)?;
        Ok(Self { ask: ask.clone(), files: Files::new(ask)?, learner, state, at: At { seed: 0, step: 0, images: 0 } })
    }
}

/// BYOL at the row's widths.
fn learner(ask: &Ask) -> Result<(Box<dyn Learner>, State)> {
    let s = &ask.size;
    let hidden = s.hidden.first().copied().context("size.hidden is missing")?;
    let sets = [
        format!("data.train={}", ask.folder.join("png").display()),
        format!("width={}", s.width),
        format!("depth={}", s.depth),
        format!("features={}", s.latent),
        format!("projection={}", s.latent),
        format!("hidden={hidden}"),
        format!("batch={}", ask.batch),
        "images=1000000000".into(),
    ];
    let lesson = Lesson::parse(find("byol")?, "method = \"byol\"", Budget::Small, &sets)?;
    let job = lesson.job("unused".into(), ask.device()?)?;
    let saved = read(&ask.folder.join(format!("weights-{}.safetensors", s.width)))?;
    for (_, params) in job.learner.params() {
        load_params(params, |name| saved.get(name).cloned())?;
    }
    let state = State::new(job.learner.as_ref(), lesson.table());
    Ok((job.learner, state))
}

fn step(learner: &mut dyn Learner, batch: &Batch, at: &mut At, optimisers: &mut Optimisers, lr: f64) -> Tensor {
    optimisers.lr = lr;
    let loss = learner.step(batch, at, optimisers).total();
    optimisers.take_info();
    *at = At { step: at.step + 1, images: at.images + batch.len() as u64, ..*at };
    loss
}

/// As in the peer's script.
const RATE: f64 = 1e-3;

impl Work for Byol {
    fn run(&mut self) -> Result<()> {
        let Self { files, learner, state, at, .. } = self;
        files.pass(&mut |batch| drop(step(learner.as_mut(), batch, at, &mut state.optimisers, RATE)))?;
        waited(self.files.device);
        Ok(())
    }

    /// Losses of the first steps on the shared pictures. The views that the method draws are left for the other side's check.
    fn check(&mut self) -> Result<Vec<f64>> {
        let (mut learner, mut state) = learner(&self.ask)?;
        let x = input(&inputs(&self.ask)?, "x")?; // [steps, B, C, H, W]
        let mut at = At { seed: 0, step: 0, images: 0 };
        let (mut losses, mut views) = (Vec::new(), Vec::new());
        for i in 0..i64::from(CHECKED_STEPS) {
            let batch = Batch::of(x.get(i), (0..self.ask.batch.unsigned_abs()).collect());
            let noise = batch.noise(at.seed);
            views.extend([0, 1].map(|k| Views::default().draw(&batch.x, &noise.at_step(k))));
            let loss = step(learner.as_mut(), &batch, &mut at, &mut state.optimisers, RATE);
            losses.push(loss.double_value(&[]));
        }
        let views = Tensor::stack(&views, 0).to_device(Device::Cpu);
        let shape = views.size().into_iter().map(usize::try_from).collect::<Result<_, _>>()?;
        let views = Array::new(shape, Values::F32(Vec::try_from(views.view(-1))?));
        let file = self.ask.folder.join(format!("views-{}.safetensors", self.ask.batch));
        safetensors::write(&file, &[("views", &views)], &Metadata::default())?;
        Ok(losses)
    }
}

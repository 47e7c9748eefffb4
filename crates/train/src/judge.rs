use crate::draw::{Drawing, Drawn, Model};
use crate::{Error, Plan, RunFolder, checkpoint, schedule};
use pentimento_core::optim::{AdamW, AdamWConfig};
use pentimento_core::{HostBatch, Params};
use pentimento_data::{Augment, Dataset, Loader, LoaderConfig};
use pentimento_measure::{
    Features, Gaussian, Proportion, accuracy, agreement, density_coverage, frechet, kolmogorov_smirnov, r2,
};
use pentimento_nn::{Cnn, CnnConfig};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// What an independent judge says of one guidance scale.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct SweepPoint {
    /// Guidance scale.
    pub guidance: f64,
    /// Share of pictures in which the judge sees the class that was asked for, with its Wilson interval.
    pub agreement: Proportion,
    /// Frechet distance to the model's training data in the judge's features.
    pub frechet: f64,
    /// Share of held-out items with a generated one in their neighbourhood.
    pub coverage: f64,
    /// Kolmogorov-Smirnov distance of each factor that was not asked for, as the judge reads it.
    pub ks: Vec<(String, f64)>,
    /// Seconds for drawing.
    pub seconds: f64,
}

/// What the judge says of a run.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Judgement {
    /// Images the model had seen.
    pub images: u64,
    /// Pictures drawn per scale, and real test images beside them.
    pub samples: usize,
    /// Accuracy of the judge on test items that neither it nor the model saw.
    pub judge_accuracy: f64,
    /// R^2 of the judge on each factor, on the same items.
    pub judge_r2: Vec<(String, f64)>,
    /// Frechet distance of as many real test images to the model's training data.
    pub real_frechet: f64,
    /// Coverage that one half of the test items reaches on the other.
    pub real_coverage: f64,
    /// The guidance that the recipe draws with.
    pub shown: f64,
    /// One point per scale, rising.
    pub sweep: Vec<SweepPoint>,
}

/// A classifier and regressor trained on its own share of the data.
struct Judge {
    cnn: Cnn,
    params: Params,
    /// Numbers of the regressed factors among the data's factors, with mean and deviation.
    factors: Vec<(usize, String, f64, f64)>,
}

/// Rows of (features, class, factors) as the judge sees them.
struct Seen {
    features: Vec<f32>,
    width: usize,
    classes: Vec<u32>,
    factors: Vec<Vec<f32>>,
}

/// Trains the judge of a plan (or reuses the one in its run folder) and lets it look at the model's pictures at every
/// scale of the sweep.
///
/// # Errors
/// A recipe without `[judge]`, data without classes, a full disk.
pub fn judge(plan: &Plan, model: &Model, observe: &mut dyn FnMut(&str, u64, u64)) -> Result<Judgement, Error> {
    let (Some(table), Some(own)) = (&plan.recipe.judge, &plan.parts.judge) else {
        let want = "is absent; add it to the recipe, e.g. [judge] share = 0.3".into();
        return Err(Error::Value { key: "[judge]", got: "recipe".into(), want });
    };
    if model.classes() == 0 {
        let want = "the judge compares classes, and this data has none".into();
        return Err(Error::Value { key: "[judge]", got: plan.recipe.data.name.clone(), want });
    }
    let test: Arc<dyn Dataset> = match &table.test {
        Some(name) => crate::read::open_for(model, name, 0)?,
        None => plan.parts.validation.clone(),
    };
    let judge = Judge::trained(plan, own, observe)?;
    let n = table.samples;
    let real = collect(&test, 2 * n, 1)?;
    let (half_a, half_b) = halves(&real);
    let seen_real = judge.look(&real.x);
    let truth: Vec<u32> = real.y.iter().map(|&y| u32::try_from(y).unwrap_or(u32::MAX)).collect();
    let (seen_a, seen_b) = (judge.look(&half_a), judge.look(&half_b));
    let reference = collect(&plan.parts.train, 10 * n, 2)?;
    let reference = Gaussian::of(&judge.look(&reference.x).table()?)?;
    let real_frechet = frechet(&Gaussian::of(&seen_a.table()?)?, &reference)?.value;
    let k = 5;
    let real_coverage = density_coverage(&seen_a.table()?, &seen_b.table()?, k)?.coverage;
    let judge_r2 = judge.factors.iter().enumerate().map(|(i, (f, name, ..))| {
        let want: Vec<f64> = real.factors.iter().map(|row| f64::from(row[*f])).collect();
        let got: Vec<f64> = seen_real.factors[i].iter().map(|&v| f64::from(v)).collect();
        Ok((name.clone(), r2(&want, &got)?))
    });
    let judge_r2 = judge_r2.collect::<Result<_, Error>>()?;
    let mut scales = plan.recipe.sample.sweep.clone();
    let shown = plan.recipe.sample.guidance;
    if !scales.iter().any(|s| (s - shown).abs() < 1e-9) {
        scales.push(shown);
    }
    scales.sort_by(f64::total_cmp);
    let mut sweep = Vec::new();
    for (i, &guidance) in scales.iter().enumerate() {
        let mut drawing = Drawing { n, seed: 1, batch: 250, ..Drawing::of(&plan.recipe) };
        drawing.how.guidance = guidance;
        let all = scales.len() as u64;
        let started = std::time::Instant::now();
        let Drawn { x, y } =
            drawing.run(model, &mut |a, b| observe("drawing for the judge", (i * b + a) as u64, all * b as u64))?;
        let seconds = started.elapsed().as_secs_f64();
        let seen = judge.look(&x);
        let asked: Vec<u32> = y.iter().map(|&y| u32::try_from(y).unwrap_or(u32::MAX)).collect();
        let ks =
            judge.factors.iter().enumerate().map(|(f, (_, name, ..))| {
                Ok((name.clone(), kolmogorov_smirnov(&seen.factors[f], &seen_real.factors[f])?))
            });
        sweep.push(SweepPoint {
            guidance,
            agreement: agreement(&asked, &seen.classes)?,
            frechet: frechet(&Gaussian::of(&seen.table()?)?, &reference)?.value,
            coverage: density_coverage(&seen_a.table()?, &seen.table()?, k)?.coverage,
            ks: ks.collect::<Result<_, Error>>()?,
            seconds,
        });
    }
    let judge_accuracy = accuracy(&truth, &seen_real.classes)?;
    let judgement = Judgement {
        images: model.images,
        samples: n,
        judge_accuracy,
        judge_r2,
        real_frechet,
        real_coverage,
        shown,
        sweep,
    };
    let text = serde_json::to_vec_pretty(&judgement).unwrap_or_default();
    pentimento_io::atomic::write_bytes(&plan.outdir.join("judgement.json"), &text)?;
    Ok(judgement)
}

/// Items of a data set in memory.
struct Collected {
    x: Tensor,
    y: Vec<i64>,
    factors: Vec<Vec<f32>>,
}

/// The first n of an addressed order.
fn collect(data: &Arc<dyn Dataset>, n: usize, seed: u64) -> Result<Collected, Error> {
    let n = n.min(usize::try_from(data.len()).unwrap_or(usize::MAX));
    let config = LoaderConfig { batch: n, seed, workers: 1, shuffle: true, augment: Augment::default() };
    let host: HostBatch = Loader::new(data.clone(), config, None, 0)?.next()?;
    let factors = host.factors.chunks(host.n_factors.max(1)).map(<[f32]>::to_vec).collect();
    Ok(Collected { x: host.upload(Device::Cpu).x, y: host.y, factors })
}

fn halves(all: &Collected) -> (Tensor, Tensor) {
    let n = all.x.size()[0];
    let half = n.div_euclid(2);
    (all.x.narrow(0, 0, half), all.x.narrow(0, half, n - half))
}

impl Judge {
    fn trained(plan: &Plan, own: &Arc<dyn Dataset>, observe: &mut dyn FnMut(&str, u64, u64)) -> Result<Self, Error> {
        let table = plan.recipe.judge.clone().unwrap_or_default();
        let factors = continuous(own)?;
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let config = CnnConfig {
            width: table.width,
            classes: count(own.classes().len()),
            regressions: count(factors.len()),
            ..CnnConfig::default()
        };
        let params = Params::new(plan.device, plan.recipe.seed ^ 0x4A55_4447);
        let cnn = config.build(&params.root(), plan.signature.input)?;
        let this = Self { cnn, params, factors };
        let key = format!("{} {table:?} {}", own.fingerprint(), pentimento_core::numerics(Kind::Float));
        let path = plan.outdir.join("judge.safetensors");
        if this.restore(&path, &key) {
            return Ok(this);
        }
        let batch = 128;
        let mut optimiser =
            AdamW::new(&this.params, AdamWConfig { weight_decay: 0.01, clip: 1.0, ..Default::default() });
        let augment = Augment { flip: false, shift: table.shift };
        let loader = LoaderConfig { batch, seed: plan.recipe.seed ^ 0x4A55, workers: 1, shuffle: true, augment };
        let mut loader = Loader::new(own.clone(), loader, None, 0)?;
        let mut images = 0;
        while images < table.images {
            let host = loader.next()?;
            let data = host.upload(plan.device);
            let Some(y) = &data.y else { break };
            let verdict = this.cnn.forward(&data.x);
            let mut loss = Tensor::zeros([], (Kind::Float, plan.device));
            if let Some(logits) = &verdict.logits {
                loss += logits.cross_entropy_loss::<Tensor>(y, None, tch::Reduction::Mean, -100, 0.05);
            }
            if let (Some(values), Some(truth)) = (&verdict.values, &data.factors) {
                // Where a picture was shifted its position is no longer the label's; such recipes have no factors.
                loss += (values - this.standard(truth)).square().mean(Kind::Float);
            }
            loss.backward();
            let lr = schedule::learning_rate(
                images,
                2e-3,
                4_000.min(table.images >> 3),
                table.images,
                crate::Schedule::Cosine,
            );
            let _ = optimiser.step(lr);
            images += batch as u64;
            observe("training the judge", images, table.images);
        }
        this.save(&path, &key)?;
        this.params.freeze();
        Ok(this)
    }

    /// Factors `[B, F]` of the data as `[B, R]` with mean 0 and deviation 1.
    fn standard(&self, all: &Tensor) -> Tensor {
        let columns: Vec<Tensor> = self
            .factors
            .iter()
            .map(|(f, _, mean, std)| (all.select(1, i64::try_from(*f).unwrap_or(0)) - *mean) / *std)
            .collect();
        Tensor::stack(&columns, 1)
    }

    fn save(&self, path: &std::path::Path, key: &str) -> Result<(), Error> {
        let arrays = pentimento_nn::weights::params_to_arrays(&self.params)?;
        let named: Vec<_> = arrays.iter().map(|(n, a)| (n.as_str(), a)).collect();
        let meta =
            [("format_version".into(), checkpoint::FORMAT_VERSION.to_string()), ("judge".into(), key.to_owned())];
        Ok(pentimento_io::safetensors::write(path, &named, &meta.into())?)
    }

    /// Takes weights from an earlier judge of the same data and settings; false where there is none that fits.
    fn restore(&self, path: &std::path::Path, key: &str) -> bool {
        let Ok(mut saved) = pentimento_io::weights::Weights::open(path) else { return false };
        if saved.metadata().get("judge").is_none_or(|k| k != key) {
            return false;
        }
        let found = pentimento_nn::weights::load_params(&self.params, |name| saved.read(name).ok()).is_ok();
        if found {
            self.params.freeze();
        }
        found
    }

    fn look(&self, x: &Tensor) -> Seen {
        let _guard = tch::no_grad_guard();
        let mut seen =
            Seen { features: Vec::new(), width: 0, classes: Vec::new(), factors: vec![Vec::new(); self.factors.len()] };
        let n = x.size()[0];
        for from in (0..n).step_by(500) {
            let part = x.narrow(0, from, (n - from).min(500)).to_device(self.params.device());
            // Real pictures are bytes; generated ones are rounded and clamped as they would be on disk.
            let part = ((part * 127.5).round() / 127.5).clamp(-1.0, 1.0);
            let verdict = self.cnn.forward(&part);
            seen.width = usize::try_from(verdict.features.size()[1]).unwrap_or(0);
            seen.features.extend(host(&verdict.features));
            if let Some(logits) = &verdict.logits {
                let best = Vec::<i64>::try_from(logits.argmax(1, false)).unwrap_or_default();
                seen.classes.extend(best.into_iter().map(|c| u32::try_from(c).unwrap_or(0)));
            }
            if let Some(values) = &verdict.values {
                for (i, (_, _, mean, std)) in self.factors.iter().enumerate() {
                    seen.factors[i].extend(host(&(values.select(1, i64::try_from(i).unwrap_or(0)) * *std + *mean)));
                }
            }
        }
        seen
    }
}

impl Seen {
    fn table(&self) -> Result<Features, Error> {
        Ok(Features::new(self.width, self.features.clone())?)
    }
}

fn host(t: &Tensor) -> Vec<f32> {
    let t = t.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut v = vec![0.0; t.numel()];
    t.copy_data(&mut v, t.numel());
    v
}

/// Factors that take many values, with mean and deviation over the first items: those that can be regressed.
fn continuous(data: &Arc<dyn Dataset>) -> Result<Vec<(usize, String, f64, f64)>, Error> {
    let sample = collect(data, 1000, 0)?;
    let mut found = Vec::new();
    for (f, name) in data.factors().iter().enumerate() {
        let mut values: Vec<f64> = sample.factors.iter().map(|row| f64::from(row[f])).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        values.sort_by(f64::total_cmp);
        values.dedup();
        if values.len() > 32 {
            found.push((f, name.clone(), mean, std));
        }
    }
    Ok(found)
}

/// The judgement in a run folder, if there is one.
pub fn read_judgement(run: &std::path::Path) -> Option<Judgement> {
    let text = pentimento_io::text::read(&run.join("judgement.json")).ok()?;
    serde_json::from_str(&text).ok().filter(|_| !RunFolder::checkpoints(run).is_empty())
}

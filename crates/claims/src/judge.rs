//! A judge of generated pictures: a small network that learned to name pictures which no arm learns from, and in whose features
//! generated pictures are compared with real ones.

use crate::sets::classes;
use crate::{Context, Error, features};
use pentimento_core::{At, Batch, Objective, Params, SingleLoss, Terms};
use pentimento_data::Dataset;
use pentimento_measure::{Features, Gaussian};
use pentimento_nn::layers::Layout;
use pentimento_nn::{Cnn, CnnConfig};
use pentimento_train::{Schedule, TrainTable};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tch::{Kind, Reduction, Tensor};

/// Keys the judge's weights and order apart from those of what it judges.
const KEY: u64 = 0x4A55_4447;

/// Pictures that pass through the network together: memory only.
const TOGETHER: i64 = 500;

/// The settings of a [`Judge`].
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    /// Channels at full resolution, a multiple of 8.
    pub width: i64,
    /// Numbers in a feature vector.
    pub features: i64,
    /// Length of training.
    pub images: u64,
    /// Images per step.
    pub batch: usize,
    /// Largest learning rate.
    pub lr: f64,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self { width: 16, features: 64, images: 24_000, batch: 64, lr: 2e-3 }
    }
}

/// The judge of a seed.
pub struct Judge {
    cnn: Cnn,
    params: Params,
}

/// What a [`Judge`] saw in pictures.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `[N, features]`
    pub features: Features,
    /// The class that each looks like.
    pub classes: Vec<u32>,
}

impl Objective for Judge {
    fn loss(&self, batch: &Batch, _: &At) -> Terms {
        // As in the judge of `pentimento train`.
        const SMOOTHING: f64 = 0.05;
        let (Some(y), Some(logits)) = (&batch.y, self.cnn.forward(&batch.x).logits) else { return Terms::default() };
        let loss = logits.cross_entropy_loss::<Tensor>(y, None, Reduction::Mean, -100, SMOOTHING);
        Terms::one("classes", loss)
    }
    fn params(&self) -> &Params {
        &self.params
    }
}

impl Judge {
    /// The judge of the context's seed, trained once for all arms.
    ///
    /// # Errors
    /// Data without classes, and what training meets.
    pub fn trained(ctx: &mut Context, config: &JudgeConfig, data: &Arc<dyn Dataset>) -> Result<Self, Error> {
        let input = data.size();
        let classes = classes(data.as_ref())?;
        let (params, seed) = (Params::new(ctx.device, ctx.seed ^ KEY), ctx.seed);
        // Evidence was made in this layout.
        let layout = Layout::Contiguous;
        let cnn = CnnConfig { width: config.width, features: config.features, classes, regressions: 0, layout };
        let cnn = cnn.build(&params.root(), input)?;
        let mut learner = SingleLoss::new(Self { cnn, params }, Kind::Float);
        let settings = json!({"judge": config, "data": data.fingerprint()});
        ctx.base("judge", &settings, seed, &mut learner, |ctx, learner| {
            let table = TrainTable::new(config.images, config.batch, config.lr);
            let table = TrainTable { schedule: Schedule::Cosine, weight_decay: 0.01, ..table };
            ctx.train(learner, data, &table, seed ^ KEY)
        })?;
        let judge = learner.into_objective();
        judge.params.freeze();
        Ok(judge)
    }

    /// Looks at pictures, rounded to bytes as they would be on disk.
    ///
    /// # Shapes
    /// - `x`: `[N, C, H, W]`, cut to [-1, 1]
    ///
    /// # Errors
    /// A picture that is not finite.
    pub fn look(&self, x: &Tensor) -> Result<Seen, Error> {
        let _guard = tch::no_grad_guard();
        let n = x.size()[0];
        let (mut seen, mut classes) = (Vec::new(), Vec::new());
        for from in (0..n).step_by(usize::try_from(TOGETHER).unwrap_or(1)) {
            let part = x.narrow(0, from, TOGETHER.min(n - from)).clamp(-1.0, 1.0);
            let verdict = self.cnn.forward(&(((part + 1.0) * 127.5).round() / 127.5 - 1.0));
            seen.push(verdict.features);
            let best = Vec::<i64>::try_from(verdict.logits.unwrap_or_default().argmax(1, false)).unwrap_or_default();
            classes.extend(best.into_iter().map(|k| u32::try_from(k).unwrap_or(u32::MAX)));
        }
        Ok(Seen { features: features(&Tensor::cat(&seen, 0))?, classes })
    }

    /// Mean and covariance of the features of pictures: one side of a Frechet distance.
    ///
    /// # Errors
    /// As [`Judge::look`]; fewer than two pictures.
    pub fn gaussian(&self, x: &Tensor) -> Result<Gaussian, Error> {
        Ok(Gaussian::of(&self.look(x)?.features)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metrics, Sets, labels, part, try_run};
    use pentimento_measure::{accuracy, frechet};
    use pentimento_train::Silent;

    /// It names digits it has not seen, is the same the second time, does not see less than a byte, and tells noise from digits
    /// and not digits from digits.
    #[test]
    fn a_judge_learns_once_and_sees_what_is_on_disk() {
        let sets = Sets::of("digits", "digits", 0).open().unwrap();
        let [own, rest] = [(0.0, 0.5), (0.5, 1.0)].map(|(a, b)| part(&sets.train, 3, a, b));
        let config = JudgeConfig { width: 8, features: 16, images: 6000, batch: 50, lr: 5e-3 };
        let run = |ctx: &mut Context| {
            let judge = Judge::trained(ctx, &config, &own)?;
            let all: Vec<u64> = (0..rest.len()).collect();
            let batch = pentimento_data::gather(rest.as_ref(), &all)?.upload(ctx.device);
            let seen = judge.look(&batch.x)?;
            let again = Judge::trained(ctx, &config, &own)?.look(&batch.x)?;
            assert_eq!((&seen.features, &seen.classes), (&again.features, &again.classes));
            assert_eq!(judge.look(&(&batch.x * 1.0001))?.features, seen.features);
            let (half, n) = (batch.x.size()[0] >> 1, batch.x.size()[0]);
            let [a, b] = [batch.x.narrow(0, 0, half), batch.x.narrow(0, half, n - half)].map(|x| judge.gaussian(&x));
            let (a, noise) = (a?, judge.gaussian(&crate::noisy(400, [1, 8, 8]).x)?);
            let (near, far) = (frechet(&a, &b?)?.value, frechet(&a, &noise)?.value);
            assert!(far > 5.0 * near, "{near} {far}");
            Ok(Metrics::new([("accuracy", accuracy(&labels(&batch)?, &seen.classes)?)]))
        };
        let metrics = try_run(run, 0, &mut Silent).unwrap();
        assert!(metrics.get("accuracy").unwrap() > 0.9, "{metrics:?}");
    }

    #[test]
    fn pictures_without_classes_are_refused() {
        let toy = pentimento_data::Bytes {
            pixels: vec![0; 64],
            shape: [1, 8, 8],
            white: 255,
            labels: Vec::new(),
            classes: Vec::new(),
            factors: Vec::new(),
            factor_names: Vec::new(),
            fingerprint: "toy".into(),
        };
        let data: Arc<dyn Dataset> = Arc::new(toy);
        let run = |ctx: &mut Context| Judge::trained(ctx, &JudgeConfig::default(), &data).map(|_| Metrics::default());
        assert!(matches!(try_run(run, 0, &mut Silent), Err(Error::NoClasses)));
    }
}

use crate::plan::Signature;
use crate::recipe::Recipe;
use crate::{Error, Plan};
use pentimento_core::{Network, Params, SingleLoss};
use pentimento_diffusion::{DiffusionLoss, LossConfig, Parametrised, Path, Preconditioning};
use pentimento_nn::Cost;
use tch::Device;

/// A network with its weights and what its output means.
pub struct Assembled {
    /// The weights.
    pub params: Params,
    /// The denoiser that owns the network.
    pub denoiser: Parametrised,
}

/// Builds the network of a recipe, freshly initialised by (seed, name), as a denoiser.
///
/// # Errors
/// What the network's configuration refuses.
pub fn assemble(recipe: &Recipe, signature: &Signature, device: Device) -> Result<Assembled, Error> {
    let params = Params::new(device, recipe.seed);
    let classes = i64::try_from(signature.classes.len()).unwrap_or(i64::MAX);
    let network: Box<dyn Network> = recipe.network.build(&params.root(), signature.input, classes)?;
    let d = &recipe.diffusion;
    let denoiser = Parametrised::new(network, d.path, d.prediction);
    // Noise levels from 0 to 80 reach a network only through the scalings made for them; pictures deviate by 0.5.
    let edm = Preconditioning::Edm { sigma_data: 0.5 };
    let denoiser = if d.path == Path::Edm { denoiser.preconditioned(edm) } else { denoiser };
    Ok(Assembled { params, denoiser })
}

/// Size of the network of a recipe, without allocating it.
///
/// # Errors
/// What the network's configuration refuses.
pub fn cost(recipe: &Recipe, signature: &Signature) -> Result<Cost, Error> {
    let classes = i64::try_from(signature.classes.len()).unwrap_or(i64::MAX);
    Ok(recipe.network.cost(signature.input, classes)?)
}

/// The loss of a plan, as the loop trains it.
pub struct Learned {
    /// The learner.
    pub learner: SingleLoss<DiffusionLoss>,
    /// The random part of validation: the same noise for the same item every time.
    pub validation: std::sync::Arc<dyn pentimento_core::Draw>,
}

/// The learner of a plan: the diffusion loss of its network.
///
/// # Errors
/// As [`assemble`].
pub fn learner(plan: &Plan) -> Result<Learned, Error> {
    let Assembled { params, denoiser } = assemble(&plan.recipe, &plan.signature, plan.device)?;
    let d = &plan.recipe.diffusion;
    let config = LossConfig {
        target: d.target,
        weighting: d.weighting,
        times: d.times,
        spread: d.spread,
        label_dropout: d.label_dropout,
    };
    let loss = DiffusionLoss::new(denoiser, params, config);
    let validation = loss.validation_draw();
    Ok(Learned { learner: SingleLoss::new(loss, plan.precision()), validation })
}

#[cfg(test)]
mod tests {
    use pentimento_core::{Condition, Noise, Params};
    use pentimento_diffusion::{Clipped, Grid, Parametrised, Path, Prediction, Sampler, Walk, sample};
    use pentimento_io::weights::Weights;
    use pentimento_nn::{NetworkConfig, weights::load_params};
    use std::path::Path as File;
    use tch::Device;

    /// Weights saved by PyTorch, with learned variance, load by name and sample on the table they would be trained on;
    /// a sample does not depend on the batch it is in.
    #[test]
    fn checkpoints_with_learned_variance_load_and_sample() {
        let tables = [
            ("dit/original", "[dit]\npatch = 2\nwidth = 32\ndepth = 2\nheads = 4\nlearn_sigma = true", 5),
            (
                "unet/scale_shift",
                "[unet]\nchannels = 16\nmult = [1, 1.5]\nblocks = 1\nattention = [2]\nhead_channels = 8\nhead_order = \"qkv_first\"\n\
                 resample = \"residual\"\ngroups = 8\nlearn_sigma = true\nnull_label = \"absent\"",
                4,
            ),
        ];
        for (name, toml, classes) in tables {
            let config: NetworkConfig = toml::from_str(toml).unwrap();
            let params = Params::new(Device::Cpu, 0);
            let network = config.build(&params.root(), [3, 8, 8], classes).unwrap();
            let file = File::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fixtures/{name}.safetensors"));
            let mut saved = Weights::open(&file).unwrap();
            load_params(&params, |n| saved.read(&format!("weight.{n}")).ok()).unwrap();
            let table: Path = "table_linear".parse().unwrap();
            let d = Parametrised::new(network, table, Prediction::Epsilon);
            let d = Clipped::new(d, 1.0);
            let (step, levels) = (Sampler::Ancestral.step(), Grid::Even.levels(&table, 10));
            let draw = |samples: Vec<u64>, y: &[i64]| {
                let noise = Noise::new(1, samples);
                let walk = Walk { step: step.as_ref(), levels: &levels, noise: &noise };
                let size = [i64::try_from(y.len()).unwrap(), 3, 8, 8];
                sample(&d, &walk, walk.start(&size, Device::Cpu), &Condition::classes(y), &mut |_| ())
            };
            let many = draw(vec![0, 1, 2], &[0, 1, 2]);
            assert_eq!(many.isfinite().all().int64_value(&[]), 1, "{name}");
            let gap = (many.narrow(0, 1, 1) - draw(vec![1], &[1])).abs().max().double_value(&[]);
            assert!(gap < 1.0 / 255.0, "{name}: {gap}");
        }
    }
}

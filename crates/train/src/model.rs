use crate::plan::Signature;
use crate::recipe::Recipe;
use crate::{Error, Plan};
use pentimento_core::{Network, Params, SingleLoss};
use pentimento_diffusion::{DiffusionLoss, LossConfig, Parametrised, TimeInput, Variance};
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
    let variance = if recipe.network.learns_sigma() { Variance::Learned } else { Variance::Fixed };
    let denoiser = Parametrised::new(network, d.path, d.prediction, TimeInput::for_path(&d.path)).with_variance(variance);
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

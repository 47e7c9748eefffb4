use crate::checkpoint::Checkpoint;
use crate::plan::{Signature, class_named};
use crate::recipe::{Recipe, SampleTable};
use crate::{Error, RunFolder, model};
use pentimento_core::{Condition, Denoiser, NO_LABEL, Noise, Params};
use pentimento_diffusion::{ClassifierFree, Clipped, Parametrised, Walk, sample};
use pentimento_io::{Array, Values, png_out};
use pentimento_torch_shim::{Autocast, Held};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A trained network ready for use: no optimiser, no gradients.
pub struct Model {
    /// The recipe it was trained by.
    pub recipe: Recipe,
    /// What it was built for.
    pub signature: Signature,
    /// Images it had seen; 0 for a fresh one.
    pub images: u64,
    params: Params,
    denoiser: Parametrised,
}

impl Model {
    /// A freshly initialised network of a recipe.
    ///
    /// # Errors
    /// As [`model::assemble`].
    pub fn blank(recipe: &Recipe, signature: &Signature, device: Device) -> Result<Self, Error> {
        let model::Assembled { params, denoiser } = model::assemble(recipe, signature, device)?;
        params.freeze();
        Ok(Self { recipe: recipe.clone(), signature: signature.clone(), images: 0, params, denoiser })
    }

    /// Opens a run folder (its newest checkpoint), a checkpoint, or a `model.safetensors`; averaged weights where there
    /// are any.
    ///
    /// # Errors
    /// Nothing there, or files that do not fit.
    pub fn open(path: &Path, device: Device) -> Result<Self, Error> {
        Self::of(&Checkpoint::named(path)?.0, device)
    }

    /// The model of a checkpoint that is open.
    ///
    /// # Errors
    /// A model of the catalogue, or weights that do not fit.
    pub fn of(saved: &Checkpoint, device: Device) -> Result<Self, Error> {
        let mut this = Self::blank(&saved.recipe()?, &saved.meta.signature, device)?;
        saved.restore_set("net", &this.params, true)?;
        this.images = saved.meta.images;
        Ok(this)
    }

    /// The weights.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The denoiser.
    pub fn denoiser(&self) -> &Parametrised {
        &self.denoiser
    }

    /// Number of classes; 0 = unconditional.
    pub fn classes(&self) -> usize {
        self.signature.classes.len()
    }

    /// A class by name or number.
    ///
    /// # Errors
    /// A name it does not know, with the nearest one.
    pub fn class(&self, name: &str) -> Result<usize, Error> {
        class_named(&self.signature.classes, name)
    }

    /// Names of the blocks that can be read.
    pub fn blocks(&self) -> Vec<String> {
        self.denoiser.network().blocks()
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.params.device()
    }
}

/// Products in a kind, as long as it lives: for passes without gradients, over and over. Weights are cast once, which autocast remembers
/// only of those that could learn; so they can, meanwhile. Those that stay in f32 stand.
pub struct Lowered {
    cast: Vec<Tensor>,
    _autocast: Autocast,
    _standing: Held,
}

impl Lowered {
    /// [`Kind::Float`] changes nothing.
    ///
    /// # Errors
    /// A device without autocast.
    pub fn new(params: &Params, kind: Kind) -> Result<Self, Error> {
        let autocast = Autocast::new(params.device(), kind)
            .map_err(|source| pentimento_core::Error::Torch { what: "autocast".into(), source })?;
        let cast = if kind == Kind::Float { Vec::new() } else { params.trainable() };
        let cast: Vec<Tensor> = cast.into_iter().filter(|t| !t.requires_grad()).collect();
        cast.iter().for_each(|t| drop(t.shallow_clone().set_requires_grad(true)));
        Ok(Self { cast, _autocast: autocast, _standing: params.stand() })
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        self.cast.iter().for_each(|t| drop(t.shallow_clone().set_requires_grad(false)));
    }
}

/// What to draw and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// Number of pictures.
    pub n: usize,
    /// Number of the first picture: its noise is that of this sample.
    pub first: u64,
    /// The class of all; in turn through all classes if absent.
    pub class: Option<usize>,
    /// Sampler, grid, steps, guidance.
    pub how: SampleTable,
    /// Seed of the noise.
    pub seed: u64,
    /// Pictures at once: memory only, results stay the same up to rounding.
    pub batch: usize,
}

/// Pictures as tensors.
#[derive(Debug)]
pub struct Drawn {
    /// `[N, C, H, W]` in [-1, 1], on the host.
    pub x: Tensor,
    /// Requested class of each, [`NO_LABEL`] if none.
    pub y: Vec<i64>,
}

/// Text chunks that go with a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PictureText {
    /// As image tools parse it: `Steps: .., Sampler: .., CFG scale: .., Seed: .., Size: ..`.
    pub parameters: String,
    /// The full plan as JSON.
    pub plan: String,
}

impl Drawing {
    /// 16 pictures by a recipe's own settings.
    pub fn of(recipe: &Recipe) -> Self {
        Self { n: 16, first: 0, class: None, how: recipe.sample.clone(), seed: 0, batch: 64 }
    }

    /// Checks what the command line changed.
    ///
    /// # Errors
    /// A number out of its range.
    pub fn check(&self) -> Result<(), Error> {
        crate::plan::check_sample(&self.how)
    }

    /// The class of picture i.
    pub fn class_of(&self, i: usize, classes: usize) -> i64 {
        class_of(self.class, self.first + i as u64, classes)
    }

    /// Draws. `observe` hears (evaluated steps, all steps) as it goes.
    ///
    /// # Errors
    /// A class that the model does not know.
    pub fn run(&self, model: &Model, observe: &mut dyn FnMut(usize, usize)) -> Result<Drawn, Error> {
        let k = model.classes();
        if let Some(class) = self.class.filter(|&c| c >= k) {
            let want = if k == 0 { "absent: this model knows no classes".into() } else { format!("a class in 0..{k}") };
            return Err(Error::Value { key: "--class", got: class.to_string(), want });
        }
        let _lowered = Lowered::new(&model.params, self.how.precision.kind(model.device()))?;
        let path = model.denoiser.path();
        let levels = self.how.grid.levels(path, self.how.steps);
        let step = self.how.sampler.step();
        let guided = ClassifierFree::new(&model.denoiser as &dyn Denoiser, self.how.guidance, self.how.interval);
        let denoiser: &dyn Denoiser = if k == 0 { &model.denoiser } else { &guided };
        let clipped = Clipped::new(denoiser, 1.0);
        let denoiser: &dyn Denoiser = if self.how.clip { &clipped } else { denoiser };
        let [c, h, w] = model.signature.input;
        let all = self.n.div_ceil(self.batch.max(1)) * self.how.steps;
        let (mut parts, mut labels, mut done) = (Vec::new(), Vec::new(), 0);
        for from in (0..self.n).step_by(self.batch.max(1)) {
            let to = (from + self.batch.max(1)).min(self.n);
            let y: Vec<i64> = (from..to).map(|i| self.class_of(i, k)).collect();
            let condition = if k == 0 {
                Condition::none()
            } else {
                Condition { y: Some(Tensor::from_slice(&y).to_device(model.device())), c: None }
            };
            let noise = Noise::new(self.seed, (from..to).map(|i| self.first + i as u64).collect());
            let shape = [i64::try_from(to - from).unwrap_or(0), c, h, w];
            let walk = Walk { step: step.as_ref(), levels: &levels, noise: &noise };
            let start = walk.start(&shape, model.device());
            let x = sample(denoiser, &walk, start, &condition, &mut |_| {
                done += 1;
                observe(done, all);
            });
            parts.push(x.to_device(Device::Cpu).to_kind(Kind::Float));
            labels.extend(y);
        }
        Ok(Drawn { x: Tensor::cat(&parts, 0), y: labels })
    }

    /// The text chunks of picture i (or of a grid, without i).
    pub fn text(&self, model: &Model, i: Option<usize>) -> PictureText {
        let [_, h, w] = model.signature.input;
        let k = model.classes();
        let prompt = match i.map(|i| self.class_of(i, k)) {
            Some(y) if y >= 0 => {
                model.signature.classes.get(usize::try_from(y).unwrap_or(0)).cloned().unwrap_or_default()
            }
            _ => String::new(),
        };
        let seed = i.map_or(self.seed.to_string(), |i| format!("{}, Sample: {}", self.seed, self.first + i as u64));
        let parameters = format!(
            "{prompt}\nSteps: {}, Sampler: {}, Schedule type: {}, CFG scale: {}, Seed: {seed}, Size: {w}x{h}",
            self.how.steps, self.how.sampler, self.how.grid, self.how.guidance
        );
        let plan = serde_json::json!({
            "recipe": model.recipe, "images": model.images, "sample": self.how, "seed": self.seed,
            "number": i.map(|i| self.first + i as u64), "class": prompt, "pentimento": env!("CARGO_PKG_VERSION"),
        });
        PictureText { parameters, plan: plan.to_string() }
    }

    /// All pictures in one PNG, as wide as there are classes where that is a handy number.
    ///
    /// # Errors
    /// What the PNG encoder refuses.
    pub fn grid(&self, drawn: &Drawn, model: &Model) -> Result<Vec<u8>, Error> {
        let k = model.classes();
        let columns = if (4..=12).contains(&k) && self.class.is_none() { k } else { 10.min(self.n.max(1)) };
        let text = self.text(model, None);
        let grid = png_out::grid(&bytes(&drawn.x), columns);
        Ok(png_out::encode(&grid, &[("parameters", &text.parameters), ("pentimento", &text.plan)])?)
    }
}

/// `[N, C, H, W]` in [-1, 1] as N pictures of bytes, `[H, W, C]`.
pub fn bytes(x: &Tensor) -> Vec<Array> {
    let u8s = (x * 127.5 + 127.5).round().clamp(0.0, 255.0).to_kind(Kind::Uint8).permute([0, 2, 3, 1]).contiguous();
    let shape: Vec<usize> = u8s.size()[1..].iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect();
    let mut flat = vec![0; u8s.numel()];
    u8s.copy_data(&mut flat, u8s.numel());
    let per = shape.iter().product::<usize>().max(1);
    flat.chunks(per).map(|p| Array::new(shape.clone(), Values::U8(p.to_vec()))).collect()
}

/// The class of a sample: one for all, or each in its turn; none where there are none.
pub fn class_of(one: Option<usize>, sample: u64, classes: usize) -> i64 {
    // By the sample's number, not its place in a drawing: sample 17 is the same picture in every drawing.
    let class = one.map(|c| c as u64).or(sample.checked_rem(classes as u64)).filter(|_| classes > 0);
    class.map_or(NO_LABEL, u64::cast_signed)
}

/// Where pictures of a run go unless told otherwise.
pub fn default_out(run: &Path) -> std::path::PathBuf {
    if run.is_dir() { run.join("drawn") } else { run.with_extension("").join("drawn") }
}

/// Whether a folder is a run.
pub fn is_run(path: &Path) -> bool {
    ["plan.json", "model.safetensors"].iter().any(|f| path.join(f).exists()) || !RunFolder::checkpoints(path).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights could learn as long as products are lowered, so that autocast casts them once; then they are what they were.
    #[test]
    fn weights_are_frozen_again_behind_lowered_products() {
        let params = Params::new(Device::Cpu, 0);
        let (w, fixed) =
            (params.root().ones("w", &[2, 2]), params.root().buffer("b", Tensor::ones([1], tch::kind::FLOAT_CPU)));
        params.freeze();
        let learns = || w.requires_grad();
        let x = Tensor::ones([1, 2], tch::kind::FLOAT_CPU);
        let _guard = tch::no_grad_guard();
        for (kind, meanwhile) in [(Kind::BFloat16, true), (Kind::Float, false)] {
            let lowered = Lowered::new(&params, kind).unwrap();
            assert_eq!((learns(), x.matmul(&w).kind(), fixed.requires_grad()), (meanwhile, kind, false));
            drop(lowered);
            assert!(!learns() && x.matmul(&w).kind() == Kind::Float);
        }
    }
}

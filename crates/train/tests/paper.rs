//! The recipe at the scale of a paper: the published size, and one step that reaches every weight. Procedural pictures of
//! the same size stand for CIFAR-10, so that it runs without data.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    reason = "a test may stop at the first surprise, says what it skips, and compares exactly"
)]

use pentimento_core::optim::{AdamW, AdamWConfig, Optimisers};
use pentimento_core::{At, Learner, Role, noise};
use pentimento_data::{Augment, Loader, LoaderConfig};
use pentimento_train::{Options, Plan, learner};
use std::path::Path;
use tch::Tensor;

fn plan(sets: &[&str]) -> Result<Plan, pentimento_train::Error> {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/cifar10-paper.toml");
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    Plan::read(&recipe, &sets, &Options::default())
}

#[test]
fn the_published_network_has_its_size_and_takes_a_step() {
    let plan = plan(&["data.name=sprites", "data.validate_on=sprites", "data.limit=64", "train.batch=2"]).unwrap();
    assert_eq!(plan.signature.input, [3, 32, 32]);
    assert!(plan.signature.classes.is_empty(), "labels = false");
    // Ho et al. 2020 (arXiv 2006.11239), section 4: 35.7 M on CIFAR-10.
    assert_eq!(plan.parameters, 35_746_307);

    let mut learner = learner(&plan).unwrap().learner;
    let params = learner.params().remove(0).1;
    assert_eq!(params.count(), plan.parameters);
    let learned = || params.entries().into_iter().filter(|p| p.role == Role::Trainable);
    // Convolutions that start at zero would keep the gradient from everything before them.
    {
        let _guard = tch::no_grad_guard();
        for p in learned().filter(|p| p.tensor.dim() > 1 && p.tensor.abs().max().double_value(&[]) < 1e-12) {
            let small = noise::init_normal(0, &p.name, &p.tensor.size()) * 0.02;
            p.tensor.shallow_clone().copy_(&small);
        }
    }
    let norm = |t: &Tensor| t.detach().to_kind(tch::Kind::Double).norm().double_value(&[]);
    let before: Vec<Tensor> = learned().map(|p| p.tensor.detach().copy()).collect();

    let mut optimisers = Optimisers::new(plan.recipe.train.batch);
    optimisers.add("net", AdamW::new(params, AdamWConfig { clip: plan.recipe.train.clip, ..AdamWConfig::default() }));
    optimisers.lr = plan.recipe.train.lr;
    let augment = Augment { flip: plan.recipe.data.flip, shift: 0 };
    let config = LoaderConfig { batch: 2, seed: 0, workers: 1, shuffle: true, augment };
    let mut loader = Loader::new(plan.parts.train.clone(), config, learner.draw(), 0).unwrap();
    let batch = loader.next().unwrap().upload(plan.device);
    let loss = learner.step(&batch, &At { seed: 0, step: 0, images: 0 }, &mut optimisers).total().double_value(&[]);
    assert!(loss.is_finite() && loss > 0.1, "{loss}");

    let info = optimisers.take_info().remove(0);
    let gradient = info.norm.double_value(&[]);
    assert!(info.skipped.double_value(&[]) < 0.5 && gradient > 1e-3, "{gradient}");
    let params = learner.params().remove(0).1;
    let after = params.entries().into_iter().filter(|p| p.role == Role::Trainable);
    let mut moved = 0.0;
    for (p, before) in after.zip(&before) {
        let way = norm(&(&p.tensor - before));
        assert!(way > 0.0 && way.is_finite(), "{} did not move: {way}", p.name);
        moved += way * way;
    }
    // The first step of Adam moves each weight by the learning rate, less where the gradient is as small as its guard.
    let most = plan.recipe.train.lr * (plan.parameters as f64).sqrt();
    assert!((0.5 * most..1.01 * most).contains(&moved.sqrt()), "{} of {most}", moved.sqrt());
}

#[test]
fn a_validation_set_of_another_kind_is_one_sentence() {
    let said = plan(&["data.name=sprites", "data.validate_on=digits"]).err().unwrap().to_string();
    assert!(said.starts_with("data.validate_on = digits; its 1797 items are [1, 8, 8] in 10 classes, "), "{said}");
}

#[test]
fn another_validation_set_leaves_all_items_to_training() {
    let held = plan(&["data.name=digits", "data.validate_on=digits", "data.px=16", "data.limit=500"]).unwrap();
    assert_eq!((held.parts.train.len(), held.parts.validation.len()), (500, 1797));
    assert!(held.describe().contains("500 items"), "{}", held.describe());
}

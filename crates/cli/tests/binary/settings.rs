//! Settings that change cost but not results, and cadences.

use crate::scratch::{Scratch, checkpoints, names, stats};

#[test]
fn workers_change_nothing_and_micro_batches_only_rounding() {
    let t = Scratch::new();
    let short = "--set train.images=320 --set train.log_images=40 --set data.shift=1 --set data.flip=true";
    let one = t.train("one", &format!("{short} --set train.workers=1"));
    assert_eq!(t.train("two", &format!("{short} --set train.workers=2")), one);
    t.train("micro", &format!("{short} --set train.micro_batch=4"));
    let losses = |run| stats(&t.path(run)).iter().map(|l| l["loss"].as_f64().unwrap()).collect::<Vec<f64>>();
    let (whole, micro) = (losses("one"), losses("micro"));
    assert_eq!((whole.len(), micro.len()), (9, 9));
    for (a, b) in whole.iter().zip(&micro) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn seeds_matter() {
    let t = Scratch::new();
    let [a, b, again] = [("a", 1), ("b", 2), ("again", 1)]
        .map(|(run, seed)| t.train(run, &format!("--set train.images=80 --seed {seed}")));
    assert!(a != b && a == again);
}

#[test]
fn old_checkpoints_go_but_every_nth_stays() {
    let t = Scratch::new();
    let every = "--set train.images=480 --set train.save_images=80 --set train.keep=1 --set train.keep_every=2";
    t.train("even", every);
    assert_eq!(checkpoints(&t.path("even")), [160, 320, 480]);
    // Saves fall due at 80, 160, ... and happen at the next multiple of 24.
    t.train("odd", &format!("{every} --set train.batch=24"));
    assert_eq!(checkpoints(&t.path("odd")), [168, 336, 480]);
    t.train("three", "--set train.images=480 --set train.save_images=80 --set train.keep=3");
    assert_eq!(checkpoints(&t.path("three")), [320, 400, 480]);
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let t = Scratch::new();
    let said = t.run("train tiny.toml --dry-run --set train.lr=0.25");
    assert_eq!(said.code, Some(0), "{said:?}");
    for word in ["lr = 0.25", "runs/tiny", "200 steps of 8 images", "10 classes", "1x8x8"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    assert_eq!(names(&t.path("")), ["tiny.toml"]);
}

/// The recipes of the two worlds that the quickstart does not show: the plan, then a few steps at a small size.
#[test]
fn recipes_of_the_other_worlds_plan_and_train() {
    let t = Scratch::new();
    for (name, items, facts) in
        [("scenes", 200_000, "3x32x32, 4 classes, 6 factors"), ("bouncing", 160_000, "3x32x32, 0 classes, 6 factors")]
    {
        let recipe = format!("{}/../../recipes/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let said = t.run(&format!("train {recipe} --dry-run"));
        assert_eq!(said.code, Some(0), "{said:?}");
        for word in [format!("{items} items {facts}"), format!("runs/{name}")] {
            assert!(said.out.contains(&word), "{word}: {}", said.out);
        }
        let small = "--set train.images=48 --set train.batch=16 --set train.log_images=16 --set network.unet.channels=8 \
                     --set sample.steps=2 --set data.limit=2000";
        t.run(&format!("train {recipe} --outdir {name} {small} --set data.{name}.px=16")).weights();
        let logged = stats(&t.path(name));
        assert_eq!(logged.iter().filter(|l| l["kind"] == "train").count(), 3, "{logged:?}");
        assert!(logged.iter().all(|l| l["loss"].as_f64().is_some_and(f64::is_finite)), "{logged:?}");
    }
    let recipe = format!("{}/../../recipes/bouncing.toml", env!("CARGO_MANIFEST_DIR"));
    t.run(&format!("train {recipe} --set data.bouncing.framse=4")).refused(2, &["framse", "did you mean `frames`?"]);
    t.run(&format!("train {recipe} --set data.bouncing.px=4")).refused(2, &["data.bouncing.px", "8..=512"]);
}

//! Kills at every point of every kind of write and at any moment between: nothing but the last save interval is lost.

use crate::scratch::{Said, Scratch, assert_same_history, checkpoints, names, stats};
use std::path::Path;
use std::time::Duration;

const SAVE: u64 = 80;
const TRAIN: &str = "train tiny.toml --outdir killed --set train.images=6400 --set train.save_images=80 \
                     --set train.log_images=8 --set train.validate_images=0 --set train.sample_images=400";

/// Points at which a write can end. Its passages when a run is resumed: 1 the log, 2 the events, 3 the plan, 4 the recipe,
/// then checkpoints and pictures.
const POINTS: [&str; 5] = ["mid-write", "after-write", "after-sync", "before-rename", "after-rename"];
const PASSAGES: [u64; 3] = [1, 5, 6];

/// The k-th number of a fixed sequence without pattern (SplitMix64).
fn addressed(k: u64) -> u64 {
    let mut z = k.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn logged(run: &Path) -> u64 {
    stats(run).last().and_then(|l| l["images"].as_u64()).unwrap_or(0)
}

/// Lets a run go on for `more` images beyond its log and some milliseconds, then kills it.
fn killed_at_a_moment(t: &Scratch, k: u64) -> Said {
    let run = t.path("killed");
    let until = logged(&run) + 8 * (addressed(k) % 20);
    let mut child = t.command(TRAIN).spawn().unwrap();
    while child.try_wait().unwrap().is_none() && logged(&run) <= until {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_micros(addressed(k + 1000) % 3000));
    child.kill().unwrap();
    Said::of(child.wait_with_output().unwrap())
}

#[test]
fn twenty_three_kills_lose_nothing() {
    let t = Scratch::new();
    let run = t.path("killed");
    let straight = t.run(&TRAIN.replace("killed", "straight")).weights();
    let mut leftovers = 0;
    let mut faults = POINTS.iter().flat_map(|point| PASSAGES.map(|n| format!("{point}:{n}"))).peekable();
    for k in 0..23_u64 {
        let (saved, before) = (checkpoints(&run).last().copied().unwrap_or(0), logged(&run));
        assert!(before <= saved + SAVE, "kill {k} lost {} images", before - saved);
        // Every third by a signal, the other fifteen by injection.
        let said = if let Some(fault) = faults.next_if(|_| k % 3 != 2) {
            let said = Said::of(t.command(TRAIN).env("PENTIMENTO_FAULT", &fault).output().unwrap());
            assert_eq!(said.signal, Some(libc::SIGABRT), "{fault}: {said:?}");
            said
        } else {
            let said = killed_at_a_moment(&t, k);
            assert_eq!(said.signal, Some(libc::SIGKILL), "{said:?}");
            said
        };
        let resumed = format!("resuming at {saved} of 6400 images");
        assert!(saved == 0 || said.err.contains(&resumed), "{resumed}: {said:?}");
        leftovers += names(&run.join("checkpoints")).iter().filter(|n| n.ends_with(".part")).count();
    }
    assert_eq!(faults.next(), None);
    assert!(leftovers >= 4, "only {leftovers} kills hit the writing of a checkpoint");
    assert!(logged(&run) < 6400 && !run.join("model.safetensors").exists());
    assert_eq!(t.run(TRAIN).weights(), straight);
    assert_same_history(&t.path("straight"), &run);
    for folder in [run.clone(), run.join("checkpoints"), run.join("samples")] {
        assert!(names(&folder).iter().all(|n| !n.ends_with(".part")), "{:?}", names(&folder));
    }
}

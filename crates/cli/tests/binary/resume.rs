//! A run that stopped in any way continues as if it had not.

use crate::scratch::{Said, Scratch, assert_same_history, checkpoints, names, stats};
use std::process::Child;
use std::time::{Duration, Instant};

/// Waits until the log of `t/r` reaches an image count, or the process ends.
fn wait_for(scratch: &Scratch, child: &mut Child, images: u64) {
    let started = Instant::now();
    let logged = || stats(&scratch.path("r")).last().is_some_and(|l| l["images"].as_u64() >= Some(images));
    while child.try_wait().unwrap().is_none() && !logged() {
        assert!(started.elapsed() < Duration::from_secs(60), "the run does not get to {images} images");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn interrupt(child: &Child) {
    // SAFETY: signals a process that this test started and has not waited for.
    unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGINT) };
}

#[test]
fn straight_equals_killed_and_resumed() {
    let t = Scratch::new();
    let straight = t.train("a", "--set train.sample_images=640");
    // Writes of whole files: events, plan, recipe, checkpoint 480, pictures 640, checkpoint 960, pictures 1280,
    // checkpoint 1440.
    let train = "train tiny.toml --outdir b --set train.sample_images=640";
    let killed = Said::of(t.command(train).env("PENTIMENTO_FAULT", "mid-write:8").output().unwrap());
    assert_eq!(killed.signal, Some(libc::SIGABRT), "{killed:?}");
    assert_eq!(checkpoints(&t.path("b")), [480, 960]);
    assert_eq!(stats(&t.path("b")).last().unwrap()["images"], 1400);
    let resumed = t.run(train);
    assert!(resumed.err.contains("resuming at 960 of 1600 images"), "{resumed:?}");
    assert_eq!(resumed.weights(), straight);
    assert_same_history(&t.path("a"), &t.path("b"));
    assert!(names(&t.path("b")).iter().all(|n| !n.ends_with(".part")), "{:?}", names(&t.path("b")));
    // A finished run is left as it is.
    assert_eq!(t.run(train).weights(), straight);
    assert_same_history(&t.path("a"), &t.path("b"));
}

#[test]
fn ctrl_c_saves_and_the_same_command_continues() {
    let t = Scratch::new();
    let more = "--set train.log_images=8 --set train.images=6400";
    let straight = t.train("straight", more);
    let train = format!("train tiny.toml --outdir r {more}");
    let mut child = t.command(&train).spawn().unwrap();
    wait_for(&t, &mut child, 80);
    interrupt(&child);
    let said = Said::of(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(4), "{said:?}");
    let at = *checkpoints(&t.path("r")).last().unwrap();
    assert!(said.err.contains(&format!("saved at {at} images; continue with: ")), "{said:?}");
    assert!(said.err.trim_end().ends_with(&train), "{said:?}");
    assert_eq!(stats(&t.path("r")).last().unwrap()["images"], at);
    let resumed = t.run(&train);
    assert!(resumed.err.contains(&format!("resuming at {at} of 6400 images")), "{resumed:?}");
    assert_eq!(resumed.weights(), straight);
    assert_same_history(&t.path("straight"), &t.path("r"));
}

#[test]
fn a_finished_run_made_longer_equals_one_that_was_never_shorter() {
    let t = Scratch::new();
    let straight = t.train("straight", "");
    // 1104 images: nothing is due there, but the end is logged, validated, drawn and saved.
    t.train("r", "--set train.images=1104");
    assert_eq!(stats(&t.path("r")).iter().filter(|l| l["images"] == 1104).count(), 2);
    assert_eq!(names(&t.path("r/samples")), ["000001104.png"]);
    // The same length again changes nothing.
    t.train("r", "--set train.images=1104");
    assert_eq!(stats(&t.path("r")).iter().filter(|l| l["images"] == 1104).count(), 2);
    let longer = t.run("train tiny.toml --outdir r");
    assert!(longer.err.contains("resuming at 1104 of 1600 images"), "{longer:?}");
    assert_eq!(longer.weights(), straight);
    assert_same_history(&t.path("straight"), &t.path("r"));
    // Where the end fell on a line of the log, that line stays.
    t.train("even", "--set train.images=800");
    assert_eq!(t.train("even", ""), straight);
    assert_same_history(&t.path("straight"), &t.path("even"));
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let t = Scratch::new();
    let train = "train tiny.toml --outdir r --set train.log_images=8 --set train.images=100000";
    let mut first = t.command(train).spawn().unwrap();
    wait_for(&t, &mut first, 8);
    let holder = format!("process {} ", first.id());
    t.run(train).refused(3, &["lock", &holder, "choose another folder"]);
    t.run(&format!("{train} --fresh")).refused(3, &[&holder]);
    assert!(first.try_wait().unwrap().is_none(), "the first run ended");
    interrupt(&first);
    let said = Said::of(first.wait_with_output().unwrap());
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(!checkpoints(&t.path("r")).is_empty());
}

#[test]
fn a_changed_recipe_is_refused_and_fresh_starts_over() {
    let t = Scratch::new();
    let short = "--set train.images=480";
    let first = t.train("r", short);
    let changed = format!("train tiny.toml --outdir r {short} --set train.lr=2e-3");
    t.run(&changed).refused(2, &["r: holds a run of another recipe", "train.lr was 0.001 and is 0.002 now", "--fresh"]);
    t.run(&format!("train tiny.toml --outdir r {short} --seed 1")).refused(2, &["seed was 0 and is 1 now"]);
    // Length and cadence belong to the command, not to the run.
    assert_ne!(t.train("r", "--set train.images=640 --set train.log_images=80"), first);
    assert_ne!(t.run(&format!("{changed} --fresh")).weights(), first);
    assert_eq!(t.run(&format!("train tiny.toml --outdir r {short} --fresh")).weights(), first);
    assert_eq!(checkpoints(&t.path("r")), [480]);
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over() {
    let t = Scratch::new();
    let straight = t.train("r", "");
    let newest = t.path("r/checkpoints/000001600.safetensors");
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() - 1000]).unwrap();
    let said = t.run("train tiny.toml --outdir r");
    assert!(said.err.contains("passed over: r/checkpoints/000001600.safetensors: "), "{said:?}");
    assert!(said.err.contains("resuming at 1440 of 1600 images"), "{said:?}");
    assert_eq!(said.weights(), straight);
}

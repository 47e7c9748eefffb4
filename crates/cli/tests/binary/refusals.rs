//! What is wrong is one sentence and an exit code, and nothing is lost.

use crate::scratch::{Said, Scratch, assert_same_history, checkpoints, names};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[test]
fn what_is_mistyped_is_named() {
    let t = Scratch::new();
    let recipe = std::fs::read_to_string(t.path("tiny.toml")).unwrap();
    std::fs::write(t.path("typo.toml"), recipe.replace("images = 1600", "imagse = 1600")).unwrap();
    std::fs::write(t.path("path.toml"), format!("{recipe}\n[diffusion]\nprediction = \"velocty\"\n")).unwrap();
    std::fs::write(t.path("broken.toml"), "[data\nname = 3").unwrap();
    let cases: [(&str, &[&str]); 20] = [
        ("train typo.toml", &["typo.toml: line 13, column 1: ", "unknown field `imagse`", "did you mean `images`?"]),
        (
            "train path.toml",
            &["path.toml: line 26, column 14: ", "unknown prediction \"velocty\"; choose one of epsilon"],
        ),
        ("train broken.toml", &["broken.toml: line 1, column "]),
        ("train none.toml", &["none.toml: ", "No such file"]),
        ("train tiny.toml --set train.lr", &["--set train.lr has no ="]),
        ("train tiny.toml --set train..lr=1", &["--set train..lr=1 has an empty key"]),
        ("train tiny.toml --set train.lr.x=1", &["--set train.lr.x=1 goes below lr, which is no table"]),
        ("train tiny.toml --set train.lrr=1", &["--set train.lrr=1", "did you mean `lr`?"]),
        ("train tiny.toml --set train.lr=fast", &["--set train.lr=fast", "invalid type"]),
        ("train tiny.toml --set train.lr=-1", &["train.lr = -1; must be above 0"]),
        ("train tiny.toml --set train.images=0", &["train.images = 0; must be at least 1"]),
        ("train tiny.toml --set train.batch=0", &["train.batch = 0"]),
        ("train tiny.toml --set train.batch=500", &["train.batch = 500", "training images"]),
        ("train tiny.toml --set train.workers=0", &["train.workers = 0; must lie in 1..=64"]),
        ("train tiny.toml --set sample.steps=0", &["sample.steps = 0; must lie in 1..=10000"]),
        ("train tiny.toml --set data.validation=2", &["data.validation = 2"]),
        ("train tiny.toml --set network.dit.patch=3", &["patch", "3"]),
        ("train tiny.toml --set data.name=mnistt", &["mnistt: no such data set or path", "did you mean mnist?"]),
        ("train tiny.toml --set data.name=mnist", &["mnist: no such data set", "pentimento data get mnist"]),
        ("sample nowhere", &["nowhere: does not exist"]),
    ];
    for (args, words) in cases {
        t.run(args).refused(2, words);
    }
    assert_eq!(names(&t.path("")), ["broken.toml", "path.toml", "tiny.toml", "typo.toml"]);
    for (args, code) in [("train", 2), ("paint", 2), ("train tiny.toml --speed 3", 2), ("--help", 0), ("--version", 0)]
    {
        let said = t.run(args);
        assert_eq!(said.code, Some(code), "{said:?}");
    }
    for device in ["tpu", "cuda:x"] {
        t.run(&format!("train tiny.toml --device {device}")).refused(3, &[device, "write cpu, cuda or cuda:<number>"]);
    }
}

#[test]
fn a_closed_choice_lists_its_names_and_the_nearest() {
    let t = Scratch::new();
    let recipe: [(&str, &[&str]); 9] = [
        ("sample.sampler=huen", &["unknown sampler \"huen\"; choose one of euler, heun", "did you mean heun?"]),
        ("sample.sampler=dimm(0.5)", &["unknown sampler", "did you mean ddim?"]),
        ("sample.grid=karas", &["unknown grid", "uniform, karras(7, 0.002)", "did you mean karras?"]),
        ("diffusion.path=vp_cosin", &["unknown path", "flow, vp_linear", "did you mean vp_cosine?"]),
        ("diffusion.prediction=epsilom", &["unknown prediction", "did you mean epsilon?"]),
        ("diffusion.weighting=minsnr", &["unknown weighting", "did you mean min_snr?"]),
        ("diffusion.times=logitnormal", &["unknown ", "did you mean logit_normal?"]),
        ("train.schedule=cosin", &["unknown variant `cosin`", "did you mean `cosine`?"]),
        ("network=DiT-X/2", &["DiT-X/2 is unknown", "the nearest choice is DiT-S/2"]),
    ];
    for (set, words) in recipe {
        t.run(&format!("train tiny.toml --set {set}")).refused(2, words);
    }
    t.run("train tiny.toml --set sample.sampler=leapfrog").refused(2, &["unknown sampler \"leapfrog\"", "dpmpp_2m"]);
    t.train("r", "--set train.images=80");
    for (args, words) in [
        ("sample r --sampler oiler", ["choose one of euler", "did you mean euler?"]),
        ("sample r --grid unifrom", ["choose one of uniform", "did you mean uniform?"]),
        ("judge r --sampler hune", ["choose one of euler", "did you mean heun?"]),
        ("encode r digits --pool flta", ["choose one of mean", "did you mean flat?"]),
        ("probe r --kind linaer", ["linear, knn", "'linear'"]),
    ] {
        let said = t.run(args);
        assert!(said.code == Some(2) && words.iter().all(|w| said.err.contains(w)), "{said:?}");
    }
    t.run("encode r digits --block blocks.9").refused(2, &["choose one of blocks.0", "did you mean blocks.0?"]);
    t.run("data check cifar").refused(2, &["did you mean cifar10?"]);
    t.run("train tiny.toml --set data.name=sprites --set data.sprites.colours=[\"rad\"]")
        .refused(2, &["choose one of red", "did you mean red?"]);
}

#[test]
fn drawing_says_what_it_cannot_do() {
    let t = Scratch::new();
    t.train("r", "--set train.images=80");
    let cases: [(&str, &[&str]); 8] = [
        ("sample r --class 77", &["--class = 77", "choose one of 0, 1, 2"]),
        ("sample r --class cat", &["--class = cat"]),
        ("sample r --steps 0", &["sample.steps = 0; must lie in 1..=10000"]),
        ("sample r -n 0", &["-n = 0; must be at least 1"]),
        ("sample r --guidance nan", &["sample.guidance = NaN; must be finite"]),
        ("sample r --interval 0.9,0.1", &["sample.interval", "rising"]),
        ("sample tiny.toml", &["tiny.toml: "]),
        ("sample r/samples", &["r/samples: holds no checkpoint"]),
    ];
    for (args, words) in cases {
        t.run(args).refused(2, words);
    }
    for (args, word) in
        [("--sampler oiler", "euler"), ("--interval 0.5", "--interval 0.2,0.8"), ("--interval a,b", "0.2,0.8")]
    {
        let said = t.run(&format!("sample r {args}"));
        assert!(
            said.code == Some(2) && said.err.contains(args.split(' ').nth(1).unwrap()) && said.err.contains(word),
            "{said:?}"
        );
    }
    for name in ["model.safetensors", "checkpoints/000000080.safetensors"] {
        let bytes = std::fs::read(t.path("r").join(name)).unwrap();
        for (cut, what) in [(bytes.len() - 100, "tail"), (500, "head"), (4, "length"), (0, "empty")] {
            let file = format!("{what}.safetensors");
            std::fs::write(t.path(&file), &bytes[..cut]).unwrap();
            t.run(&format!("sample {file} -n 1")).refused(2, &[&file]);
        }
    }
    assert!(!t.path("r/drawn").exists());
}

/// `pentimento show vae | head -1`, and results written to a full disk.
#[test]
fn a_reader_that_leaves_is_no_defect_and_a_full_output_is_one_sentence() {
    let t = Scratch::new();
    let mut gone = t.command("show vae").spawn().unwrap();
    drop(gone.stdout.take());
    let said = Said::of(gone.wait_with_output().unwrap());
    assert!(said.code == Some(0) && said.err.is_empty(), "{said:?}");
    if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
        let said = Said::of(t.command("show vae").stdout(full).output().unwrap());
        assert!(said.code == Some(3) && said.err.starts_with("error: standard output: "), "{said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
}

#[test]
fn an_unwritable_folder_is_one_sentence() {
    let t = Scratch::new();
    std::fs::write(t.path("file"), "").unwrap();
    t.run("train tiny.toml --outdir file/r").refused(3, &["file/r: cannot make: "]);
    // SAFETY: asks for the user's number.
    if unsafe { libc::geteuid() } == 0 {
        // Permissions do not bind the superuser; the kernel's own folder does.
        t.run("train tiny.toml --outdir /sys/kernel/pentimento").refused(3, &["/sys/kernel/pentimento: cannot make: "]);
    } else {
        std::fs::create_dir(t.path("closed")).unwrap();
        std::fs::set_permissions(t.path("closed"), PermissionsExt::from_mode(0o500)).unwrap();
        t.run("train tiny.toml --outdir closed").refused(3, &["closed/lock: cannot lock: Permission denied"]);
        t.run("train tiny.toml --outdir closed/r").refused(3, &["closed/r: cannot make: Permission denied"]);
    }
    t.train("r", "--set train.images=80");
    t.run("sample r -n 1 --out file/drawn").refused(3, &["file/drawn: cannot make: "]);
}

/// No file may grow beyond so many bytes; the attempt is an error as on a full disk, not a signal.
fn limited(command: &mut Command, bytes: u64) -> Said {
    let limit = move || {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: both calls are allowed between fork and exec.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    Said::of(unsafe { command.pre_exec(limit) }.output().unwrap())
}

#[test]
fn a_full_disk_is_one_sentence_and_costs_nothing() {
    let t = Scratch::new();
    let straight = t.train("straight", "");
    let train = "train tiny.toml --outdir r";
    // Writes of whole files: events, plan, recipe, checkpoint 480, checkpoint 960.
    let killed = Said::of(t.command(train).env("PENTIMENTO_FAULT", "after-rename:5").output().unwrap());
    assert_eq!((killed.signal, checkpoints(&t.path("r"))), (Some(libc::SIGABRT), vec![480, 960]));
    let size = std::fs::metadata(t.path("r/checkpoints/000000960.safetensors")).unwrap().len();
    limited(&mut t.command(train), size - 1000).refused(3, &["r/checkpoints/000001440.safetensors: cannot write: "]);
    assert_eq!(checkpoints(&t.path("r")), [480, 960]);
    assert_eq!(names(&t.path("r/checkpoints")).len(), 2, "leftovers: {:?}", names(&t.path("r/checkpoints")));
    let resumed = t.run(train);
    assert!(resumed.err.contains("resuming at 960 of 1600"), "{resumed:?}");
    assert_eq!(resumed.weights(), straight);
    limited(&mut t.command("sample r -n 4"), 100).refused(3, &["r/drawn/000000.png: cannot write: "]);
    assert_eq!(names(&t.path("r/drawn")), [""; 0]);
    assert_eq!(t.run("sample r -n 4").code, Some(0));
    assert_same_history(&t.path("straight"), &t.path("r"));
}

#[test]
fn a_truly_full_file_system_too() {
    let t = Scratch::new();
    std::fs::create_dir(t.path("small")).unwrap();
    let script = "mount -t tmpfs -o size=400k none small || exit 77; \
                  \"$0\" train tiny.toml --outdir small/r --set train.keep=9; code=$?; ls small/r/checkpoints; exit $code";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_pentimento")]);
    let output = command.current_dir(t.path("")).env("OMP_NUM_THREADS", "1").output();
    let Some(said) = output.ok().map(Said::of).filter(|s| s.code == Some(3)) else {
        println!("skipped: a full file system, which needs the right to mount one");
        return;
    };
    said.refused(3, &["small/r/checkpoints/000001440.safetensors: cannot write: No space left on device"]);
    assert_eq!(said.out.trim(), "000000480.safetensors\n000000960.safetensors");
}

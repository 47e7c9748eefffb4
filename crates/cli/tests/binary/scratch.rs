//! A scratch folder with a tiny recipe in it, the binary started there, and what a run left.

use pentimento_io::limits::Limits;
use pentimento_io::picture::Picture;
use pentimento_io::weights::Weights;
use pentimento_io::{Array, events, jsonl};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// 1600 images in 200 steps: about a third of a second.
const RECIPE: &str = r#"
[data]
name = "digits"
limit = 200

[network.dit]
patch = 4
width = 16
depth = 1
heads = 1

[train]
images = 1600
batch = 8
lr = 1e-3
log_images = 200
validate_images = 320
save_images = 480
ema_halflife_images = 500

[sample]
sampler = "euler"
steps = 2
"#;

/// What two runs of the same plan may differ in.
const VOLATILE: [&str; 4] = ["images_per_s", "memory_mib", "peak_mib", "elapsed_s"];

pub struct Scratch(TempDir);

/// How a process ended and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Scratch {
    /// A folder with `tiny.toml` in it.
    pub fn new() -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(scratch.path("")).unwrap();
        std::fs::write(scratch.path("tiny.toml"), RECIPE).unwrap();
        scratch
    }

    /// Below a folder of its own: whatever lies beside temporary folders, real data is sought in `../shared` and not found.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("here").join(name)
    }

    /// The binary with these arguments, one string split at spaces, not started yet.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pentimento"));
        command.args(args.split_whitespace()).current_dir(self.path("")).env("OMP_NUM_THREADS", "1");
        command.env_remove("PENTIMENTO_FAULT").env_remove("PENTIMENTO_DATA");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, args: &str) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    /// Runs `train tiny.toml --outdir <outdir> <more>` to its end and returns the hash of the weights.
    pub fn train(&self, outdir: &str, more: &str) -> String {
        self.run(&format!("train tiny.toml --outdir {outdir} {more}")).weights()
    }
}

impl Said {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The hash that a finished training prints.
    pub fn weights(&self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        let hash = self.out.lines().find_map(|l| l.strip_prefix("weights "));
        hash.unwrap_or_else(|| panic!("no weights line: {self:?}")).to_owned()
    }

    /// Asserts one sentence on stderr with these words in it, this exit code, and no trace of a panic.
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let errors: Vec<&str> = self.err.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        assert!(self.err.trim_end().ends_with(errors[0]), "the error is not the last line: {self:?}");
        assert!(!self.err.contains("panicked") && !self.err.contains("defect"), "{self:?}");
        for word in words {
            assert!(errors[0].contains(word), "{word:?} is not in {:?}", errors[0]);
        }
    }
}

/// Lines of `stats.jsonl` without what may differ; an unfinished last line is passed over.
pub fn stats(run: &Path) -> Vec<Value> {
    let path = run.join("stats.jsonl");
    let mut lines = if path.exists() { jsonl::read(&path).unwrap().values } else { Vec::new() };
    for line in &mut lines {
        let map = line.as_object_mut().unwrap();
        VOLATILE.iter().for_each(|key| drop(map.remove(*key)));
    }
    lines
}

/// Scalars, and pictures as the sizes of their PNG files, by step and tag.
pub fn curves(run: &Path) -> BTreeMap<(i64, String), f64> {
    let mut all = BTreeMap::new();
    for file in events::files(run).unwrap() {
        for event in events::read(&file).unwrap().events {
            let (tag, value) = match event.what {
                events::What::Scalar { tag, value } => (tag, f64::from(value)),
                events::What::Image { tag, png, .. } => (tag, png.len() as f64),
                _ => continue,
            };
            let volatile = VOLATILE.iter().any(|key| tag.ends_with(key));
            let before = all.insert((event.step, tag.clone()), if volatile { 0.0 } else { value });
            assert!(before.is_none(), "{}: two entries of {tag} at {}", file.display(), event.step);
        }
    }
    all
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Image counts of the checkpoints of a run, each of which must be readable to its last tensor.
pub fn checkpoints(run: &Path) -> Vec<u64> {
    let folder = run.join("checkpoints");
    let named = names(&folder).into_iter().filter_map(|n| Some((n.strip_suffix(".safetensors")?.parse().ok()?, n)));
    let found: Vec<(u64, String)> = named.collect();
    found.iter().for_each(|(_, name)| drop(tensors(&folder.join(name))));
    found.into_iter().map(|(images, _)| images).collect()
}

/// All tensors of a file.
pub fn tensors(path: &Path) -> BTreeMap<String, Array> {
    let mut file = Weights::open(path).unwrap();
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    names.into_iter().map(|n| (n.clone(), file.read(&n).unwrap())).collect()
}

/// Asserts that two runs left the same logs, curves, pictures and averaged weights.
pub fn assert_same_history(a: &Path, b: &Path) {
    assert_eq!(stats(a), stats(b));
    assert_eq!(curves(a), curves(b));
    assert_eq!(names(&a.join("samples")), names(&b.join("samples")));
    for name in names(&a.join("samples")) {
        let read = |run: &Path| std::fs::read(run.join("samples").join(&name)).unwrap();
        assert!(read(a) == read(b), "{name} differs");
    }
    assert_eq!(tensors(&a.join("model.safetensors")), tensors(&b.join("model.safetensors")));
}

/// A PNG of 8 x 8 grey pixels.
pub fn write_png(path: &Path, shade: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let picture = Array::new(vec![8, 8, 1], pentimento_io::Values::U8(vec![shade; 64]));
    pentimento_io::png_out::save(path, &picture, &[]).unwrap();
}

pub fn read_png(path: &Path) -> Picture {
    Picture::decode(path, &std::fs::read(path).unwrap(), &Limits::STANDARD).unwrap()
}

use crate::Error;
use pentimento_io::events::{self, What};
use pentimento_io::lock::Lock;
use pentimento_io::{atomic, jsonl};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A run on disk: `plan.json`, `recipe.toml`, `stats.jsonl`, TensorBoard events, `checkpoints/`, `samples/`, `model.safetensors`.
/// Held by one writer at a time.
pub struct RunFolder {
    path: PathBuf,
    events: events::Writer,
    stats: jsonl::Writer,
    _lock: Lock,
}

/// How much of what a run wrote down stays when it goes on: all before a number of images, and there what is named.
///
/// The end of a run is logged, validated and drawn though nothing of it is due. When the run is made longer, that would
/// be more than an unbroken run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Images seen.
    pub images: u64,
    /// The line of the log.
    pub log: bool,
    /// The validation loss.
    pub validation: bool,
    /// The pictures.
    pub picture: bool,
}

impl Kept {
    /// Everything up to a number of images.
    pub fn whole(images: u64) -> Self {
        Self { images, log: true, validation: true, picture: true }
    }

    fn holds(&self, images: u64, tag: &str) -> bool {
        let here = match tag {
            "train" => self.log,
            "val" => self.validation,
            "samples" => self.picture,
            _ => true,
        };
        images < self.images || images == self.images && here
    }
}

impl RunFolder {
    /// Makes or takes over a folder, and cuts everything back that is not kept.
    ///
    /// # Errors
    /// A second writer, an unwritable folder, a full disk.
    pub fn open(path: &Path, kept: Kept, lock: Lock) -> Result<Self, Error> {
        atomic::sweep(path)?;
        for sub in ["checkpoints", "samples"] {
            make(&path.join(sub))?;
            atomic::sweep(&path.join(sub))?;
        }
        let stats = path.join("stats.jsonl");
        if stats.exists() {
            let tag = |line: &Value| line["kind"].as_str().unwrap_or_default().to_owned();
            jsonl::cut_back(&stats, |line| line["images"].as_u64().is_some_and(|n| kept.holds(n, &tag(line))))?;
        }
        for (at, file) in numbered(&path.join("samples"), "png") {
            if !kept.holds(at, "samples") {
                remove(&file)?;
            }
        }
        let events = events::Writer::resume(path, &|event| {
            let tag = match &event.what {
                What::Scalar { tag, .. } | What::Image { tag, .. } => tag.split('/').next().unwrap_or_default(),
                _ => "",
            };
            u64::try_from(event.step).is_ok_and(|n| kept.holds(n, tag))
        })?;
        let stats = jsonl::Writer::open(&stats)?;
        Ok(Self { path: path.into(), events, stats, _lock: lock })
    }

    /// Takes the one-writer lock of a run folder, making the folder if need be.
    ///
    /// # Errors
    /// One sentence naming the holder.
    pub fn lock(path: &Path) -> Result<Lock, Error> {
        make(path)?;
        Ok(Lock::acquire(path)?)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line of scalars to `stats.jsonl` and, under `tag/key`, to the events.
    ///
    /// # Errors
    /// A full disk.
    pub fn scalars(&mut self, images: u64, tag: &str, scalars: &[(&str, f64)]) -> Result<(), Error> {
        let mut line = serde_json::Map::new();
        line.insert("images".into(), images.into());
        line.insert("kind".into(), tag.into());
        for (key, value) in scalars {
            line.insert((*key).into(), serde_json::json!(value));
            self.events.scalar(step(images), &format!("{tag}/{key}"), single(*value))?;
        }
        self.events.flush()?;
        Ok(self.stats.append(&Value::Object(line))?)
    }

    /// Saves a picture grid and puts it among the events.
    ///
    /// # Errors
    /// A full disk.
    pub fn picture(&mut self, images: u64, png: &[u8]) -> Result<(), Error> {
        atomic::write_bytes(&self.path.join(format!("samples/{images:09}.png")), png)?;
        self.events.image(step(images), "samples", png)?;
        Ok(self.events.flush()?)
    }

    /// Checkpoints, oldest first.
    pub fn checkpoints(path: &Path) -> Vec<(u64, PathBuf)> {
        numbered(&path.join("checkpoints"), "safetensors")
    }

    /// Picture grids, oldest first.
    pub fn pictures(path: &Path) -> Vec<(u64, PathBuf)> {
        numbered(&path.join("samples"), "png")
    }

    /// Makes the next save, log and picture survive a loss of power.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&mut self) -> Result<(), Error> {
        Ok(self.stats.sync()?)
    }

    /// Removes what a run left in a folder, and nothing else.
    ///
    /// # Errors
    /// Another writer, or files that cannot be removed.
    pub fn clear(path: &Path) -> Result<(), Error> {
        if !path.exists() {
            return Ok(());
        }
        let _lock = Self::lock(path)?;
        for (_, file) in Self::checkpoints(path).into_iter().chain(Self::pictures(path)) {
            remove(&file)?;
        }
        let ours = [
            "stats.jsonl",
            "plan.json",
            "recipe.toml",
            "model.safetensors",
            "probe.json",
            "judgement.json",
            "report.html",
        ];
        for file in ours.iter().map(|f| path.join(f)).chain(events::files(path)?) {
            if file.exists() {
                remove(&file)?;
            }
        }
        Ok(())
    }

    /// Removes checkpoints beyond the last `keep`, sparing every `every`-th (counted in saves of `save_images`).
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn retain(&self, keep: usize, every: usize, save_images: u64) -> Result<(), Error> {
        let all = Self::checkpoints(&self.path);
        // A save falls due at the first step that reaches a multiple of `save_images`, so the oldest checkpoint from there
        // on is that save; what an interruption saved before the next one is none.
        let due = |at: u64| at.checked_div(save_images).unwrap_or(0);
        for (i, (at, file)) in all.iter().enumerate().take(all.len().saturating_sub(keep)) {
            let first = i == 0 || due(all[i - 1].0) < due(*at);
            let spared = every > 0 && first && due(*at) > 0 && due(*at).is_multiple_of(every as u64);
            if !spared {
                remove(file)?;
            }
        }
        Ok(())
    }
}

/// Files `<number>.<extension>` of a folder, by number.
fn numbered(folder: &Path, extension: &str) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let mut found: Vec<_> = entries
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .filter_map(|p| Some((p.file_stem()?.to_str()?.parse().ok()?, p)))
        .collect();
    found.sort();
    found
}

fn make(folder: &Path) -> Result<(), Error> {
    Ok(fs::create_dir_all(folder).map_err(|e| pentimento_io::Error::os(folder, "make", e))?)
}

fn remove(file: &Path) -> Result<(), Error> {
    Ok(fs::remove_file(file).map_err(|e| pentimento_io::Error::os(file, "remove", e))?)
}

fn step(images: u64) -> i64 {
    i64::try_from(images).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "event files hold f32")]
fn single(v: f64) -> f32 {
    v as f32
}

//! What a person sees while work goes on.

use crate::exit::MACHINE_CODE;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pentimento_claims::LearnedModel;
use pentimento_methods::find;
use pentimento_train::{Checkpoint, Model, Monitor, Progress, parse_device};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static STOP: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C and a termination signal end the work in good order; a second one ends it at once.
pub fn catch_interrupts() {
    // A second handler in the same process is refused; the first stays in place, which is what is wanted.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
}

/// Whether an interrupt arrived.
pub fn interrupted() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// A line for people. Work goes on if nobody reads any more.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A result. A reader that has seen enough, such as `head`, may leave; a result that cannot be kept ends the program.
pub fn result(line: &str) {
    if let Err(e) = writeln!(std::io::stdout().lock(), "{line}")
        && e.kind() != ErrorKind::BrokenPipe
    {
        say(&format!("error: standard output: {e}; make room, or write it elsewhere"));
        std::process::exit(MACHINE_CODE.into());
    }
}

/// Progress of training: rate, time left, loss, memory. On a terminal a bar; in a file a line every ten seconds.
pub struct TrainBar {
    bar: ProgressBar,
    last_line: Instant,
}

impl TrainBar {
    /// A bar over a number of images.
    pub fn new(total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(4));
        bar.set_style(style("{bar:28} {percent:>3}% {human_pos}/{human_len} images  {msg}"));
        Self { bar, last_line: Instant::now() }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

/// Seconds as `1 h 02 min`, `3 min 05 s` or `12 s`.
pub fn duration(seconds: f64) -> String {
    let s = Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_secs();
    match (s.div_euclid(3600), s.div_euclid(60) % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

impl Monitor for TrainBar {
    fn progress(&mut self, p: &Progress) {
        let text = format!(
            "{:.0}/s, {} left, loss {:.4}, {:.0} MiB (peak {:.0})",
            p.rate,
            duration(p.eta_s),
            p.loss,
            p.memory_mib,
            p.peak_mib
        );
        self.bar.set_position(p.images.min(p.total));
        if self.bar.is_hidden() && (self.last_line.elapsed().as_secs() >= 10 || p.images >= p.total) {
            say(&format!("{:>5.1}%  {} images, {text}", 100.0 * p.images as f64 / p.total.max(1) as f64, p.images));
            self.last_line = Instant::now();
        }
        self.bar.set_message(text);
    }

    fn say(&mut self, line: &str) {
        if self.bar.is_hidden() { say(line) } else { self.bar.println(line) }
    }

    fn stop(&mut self) -> bool {
        interrupted()
    }
}

impl Drop for TrainBar {
    fn drop(&mut self) {
        self.bar.finish();
    }
}

/// Progress of counted work. On a terminal a bar that vanishes; in a file a line every ten seconds.
pub struct Steps {
    bar: ProgressBar,
    started: Instant,
    last_line: Instant,
}

impl Steps {
    /// Nothing is known yet but what it is.
    pub fn new(what: &str) -> Self {
        let bar = steps_bar(what);
        let now = Instant::now();
        Self { bar, started: now, last_line: now }
    }

    /// So much of it is done.
    pub fn at(&mut self, what: &str, done: u64, all: u64) {
        self.bar.set_length(all);
        self.bar.set_position(done.min(all));
        if self.bar.message() != what {
            self.bar.set_message(what.to_owned());
            self.started = Instant::now();
        }
        if self.bar.is_hidden() && self.last_line.elapsed().as_secs() >= 10 && done > 0 {
            let left = self.started.elapsed().as_secs_f64() * all.saturating_sub(done) as f64 / done as f64;
            say(&format!("{what}: {done} of {all}, {} left", duration(left)));
            self.last_line = Instant::now();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar over counted pieces of work.
pub fn steps_bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
    bar.set_style(style("{msg} {bar:28} {pos}/{len}  {eta} left"));
    bar.set_message(what.to_owned());
    bar
}

/// What a run trained.
pub enum Opened {
    /// A diffusion model of `[network]` and `[diffusion]`.
    Diffusion(Box<Model>),
    /// The model of a page of the catalogue.
    Method(Box<LearnedModel>),
}

/// Opens a run or a model for use, and says what had to be passed over.
pub fn open_any(path: &Path, device: &str) -> anyhow::Result<Opened> {
    let device = parse_device(device)?;
    let (saved, notes) = Checkpoint::named(path)?;
    notes.iter().for_each(|n| say(n));
    Ok(if saved.method().is_some() {
        Opened::Method(Box::new(LearnedModel::of(&saved, device, find)?))
    } else {
        Opened::Diffusion(Box::new(Model::of(&saved, device)?))
    })
}

/// The data that a command names, or what a diffusion model learned from.
pub fn own_data(model: &Model, named: Option<&str>, run: &Path, how: &str) -> anyhow::Result<String> {
    let name = named.unwrap_or(&model.recipe.data.name);
    anyhow::ensure!(!name.is_empty(), "{}: was imported and names no data; {how}", run.display());
    Ok(name.to_owned())
}

/// [`open_any`] for what works on diffusion models alone.
pub fn open_model(path: &Path, device: &str) -> anyhow::Result<Model> {
    match open_any(path, device)? {
        Opened::Diffusion(model) => Ok(*model),
        Opened::Method(m) => anyhow::bail!(
            "{}: is a model of {}, and this command works on what a diffusion recipe trained",
            path.display(),
            m.method.slug
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        assert_eq!([duration(5.2), duration(185.0), duration(3725.0)], ["5 s", "3 min 05 s", "1 h 02 min"]);
    }
}

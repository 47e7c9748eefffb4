//! `cargo xtask bench peers`: the rows, one after the other.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a command line speaks")]

use super::contest::{Effort, Match, Outcome, contest};
use super::gpu;
use super::machine;
use super::report::{Limits, Line, Report};
use super::rows::{Config, Place, Row, rows};
use super::side::Side;
use crate::fixtures::environment;
use crate::repo::Repo;
use crate::setup as libtorch;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// What was asked for.
#[derive(clap::Args)]
pub struct Ask {
    /// Rows by number or id: 1,3b; all if absent.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Most rounds of a match.
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Threads of each side; all cores if absent.
    #[arg(long)]
    threads: Option<usize>,
    /// Where both sides run: `cuda` stands for the rows of an accelerator, which are others.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// The accelerator's rows at sizes of seconds, on whatever device, to see that both sides run.
    #[arg(long)]
    tiny: bool,
    /// Few rounds, one compile mode, the pinned torch only: minutes, to see that everything runs.
    #[arg(long)]
    quick: bool,
}

/// The Python environments of the peers: folder, requirements.
pub const ENVIRONMENTS: [(&str, &str); 2] =
    [("bench-env", "benches/requirements.txt"), ("bench-env-newest", "benches/requirements-newest.txt")];

/// Rows of which the peak memory is compared in fresh processes, beside that of programs.
const MEMORY: [&str; 4] = ["1a", "1b", "2a", "2b"];

/// Iterations before the peak is read.
const MEMORY_STEPS: usize = 5;

impl Ask {
    fn rows(&self) -> Vec<Row> {
        if self.tiny || self.device != "cpu" { gpu::rows(self.tiny) } else { rows() }
    }

    fn effort(&self) -> Effort {
        let modes: &[_] = match self.device.as_str() {
            "cpu" => &["default"],
            // Launches are recorded once and played again: CUDA graphs.
            _ => &["default", "reduce-overhead"],
        };
        let long_modes = &["max-autotune"];
        let full =
            Effort { rounds: self.rounds, trials: 3, trial_s: 4.0, turn_s: 0.4, budget_s: 60.0, modes, long_modes };
        match self.quick {
            true => Effort {
                rounds: self.rounds.min(6),
                trials: 1,
                trial_s: 1.0,
                turn_s: 0.1,
                budget_s: 10.0,
                modes: &["default"],
                long_modes: &[],
            },
            false => full,
        }
    }

    /// Whether a row is asked for, by its id or its number.
    fn wants(&self, id: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|r| id == r || id.starts_with(r.as_str()))
    }
}

/// Runs the rows, writes `benches/runs/<date>-<machine>`; false if a row failed.
pub fn run(repo: &Repo, ask: &Ask) -> Result<bool> {
    let known: Vec<&str> = ask.rows().iter().map(|r| r.id).chain(["8"]).collect();
    for row in &ask.rows {
        let there = known.iter().any(|id| id.starts_with(row.as_str()));
        ensure!(there && !row.is_empty(), "no row is called {row}; the rows are {}", known.join(", "));
    }
    let bench = Bench::new(repo, ask)?;
    let began = Instant::now();
    let mut report = Report { about: bench.about(repo), ..Report::default() };
    let folder = machine::unused(&repo.root.join("benches/runs"), &machine::folder(repo));
    let mut good = true;
    for row in ask.rows().into_iter().filter(|r| ask.wants(r.id)) {
        let start = Instant::now();
        eprintln!("row {}: {}", row.id, row.title);
        if let Err(error) = bench.measure(&row, &mut report) {
            eprintln!("error: row {}: {error:#}", row.id);
            report.absent.push((row.id.into(), format!("{error:#}")));
            good = false;
        }
        report.seconds.push((row.id.into(), start.elapsed().as_secs_f64()));
        // A run that is cut off keeps the rows that it finished.
        report.write(&folder)?;
    }
    if report.lines.iter().any(|l| l.least.is_some()) {
        let (threads, device) = (bench.place.threads.to_string(), &bench.place.device);
        let edge = if device == "cpu" { "2048" } else { "8192" };
        let asked = ["limits", "--edge", edge, "--threads", &threads, "--device", device];
        report.limits = Some(Limits::parse(&bench.alone(&asked)?)?);
    }
    if ask.rows.is_empty() && !ask.tiny && ask.device == "cpu" {
        eprintln!("growth of cost with work");
        report.scaling = bench.alone(&["scaling"])?;
    }
    report.seconds.push(("all".into(), began.elapsed().as_secs_f64()));
    report.write(&folder)?;
    print!("{}", report.summary());
    eprintln!("written: {}", folder.display());
    Ok(good)
}

/// Everything that is made once.
pub struct Bench {
    place: Place,
    effort: Effort,
    program: PathBuf,
    script: PathBuf,
    python: Vec<PathBuf>,
}

impl Bench {
    fn new(repo: &Repo, ask: &Ask) -> Result<Self> {
        let environments = if ask.quick { &ENVIRONMENTS[..1] } else { &ENVIRONMENTS[..] };
        let made = environments.iter().map(|(name, pins)| environment(repo, name, pins));
        let python = made.collect::<Result<Vec<_>>>()?;
        let threads = ask.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        Ok(Self {
            place: Place { scratch: scratch(repo)?, threads, device: ask.device.clone() },
            effort: ask.effort(),
            program: built(repo)?,
            script: repo.root.join("benches/peers/serve.py"),
            python,
        })
    }

    /// What our side prints by itself.
    fn alone(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.program).args(args).output().context("our side does not start")?;
        ensure!(output.status.success(), "{}: {}", args[0], String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn ours(&self) -> Result<Side> {
        let mut command = Command::new(&self.program);
        command.arg("serve");
        self.start("ours", command)
    }

    fn peer(&self, i: usize) -> Result<Side> {
        let mut command = Command::new(&self.python[i]);
        // Compiled graphs are kept, so that setting a configuration up a second time is quick.
        command.arg(&self.script).env("TORCHINDUCTOR_CACHE_DIR", self.place.scratch.join(format!("inductor-{i}")));
        self.start(["torch 2.11", "newest torch"][i], command)
    }

    fn start(&self, name: &str, mut command: Command) -> Result<Side> {
        let log = self.place.scratch.join(format!("{}.log", name.replace(' ', "-")));
        let threads = self.place.threads.to_string();
        Side::start(name, command.env("OMP_NUM_THREADS", &threads).env("RAYON_NUM_THREADS", &threads), &log)
    }

    /// A row in processes of its own: what an earlier row left in memory is not this row's.
    fn row(&self, row: &Row) -> Result<Outcome> {
        let mut ours = self.ours()?;
        let n = if row.newest() { self.python.len() } else { 1 };
        let mut peers = (0..n).map(|i| self.peer(i)).collect::<Result<Vec<_>>>()?;
        contest(row, &mut ours, &mut peers, &self.place, &self.effort)
    }

    /// A row's matches, and its memory, into the report.
    fn measure(&self, row: &Row, report: &mut Report) -> Result<()> {
        let outcome = self.row(row)?;
        for m in &outcome.matches {
            let line = Line::of(m, outcome.least);
            eprintln!("  {}: {}", line.pairing, line.markdown());
            report.lines.push(line);
        }
        report.trials.extend(outcome.trials);
        let fresh = outcome.matches.first().filter(|m| MEMORY.contains(&m.row.id));
        let peaks = fresh.map_or(Ok(outcome.launched), |m| self.memory(m).map(Some))?;
        if let Some([ours, peer]) = peaks {
            report.memory.push((format!("{} {}", row.id, row.title), ours, peer));
        }
        Ok(())
    }

    /// Peak MiB of both sides, each in a fresh process in its fastest configuration.
    fn memory(&self, m: &Match) -> Result<[f64; 2]> {
        let peak = |mut side: Side, config: &Config| -> Result<f64> {
            side.setup(&self.place.setup(&m.row.ask, config))?;
            side.run(MEMORY_STEPS)?;
            side.peak_mib()
        };
        let ours = peak(self.ours()?, &m.ours)?;
        let i = usize::from(m.peer.starts_with("newest"));
        Ok([ours, peak(self.peer(i)?, &m.theirs)?])
    }

    fn about(&self, repo: &Repo) -> Vec<(String, String)> {
        let version = |python: &PathBuf| {
            let script = "import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in \
                          ('torch', 'diffusers', 'scikit-learn', 'torch-fidelity') if any(d.name == p for d in m.distributions())))";
            let output = Command::new(python).args(["-c", script]).output();
            output.map_or("unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        };
        let mut about = vec![
            ("machine".into(), machine::processor()),
            ("device".into(), machine::device(repo, &self.place.device)),
            ("threads of each side".into(), self.place.threads.to_string()),
            ("revision".into(), machine::revision(repo)),
            ("ours".into(), "libtorch 2.11.0".into()),
        ];
        for (name, python) in ["peer", "newest peer"].iter().zip(&self.python) {
            about.push(((*name).into(), version(python)));
        }
        about
    }
}

/// The folder of shared weights, data and logs.
pub fn scratch(repo: &Repo) -> Result<PathBuf> {
    let folder = repo.target.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot make", folder.display()))?;
    Ok(folder)
}

/// Builds our side and the program itself.
pub fn built(repo: &Repo) -> Result<PathBuf> {
    libtorch::run(repo, &libtorch::Ask::default())?;
    let build = repo.cargo().args(["build", "--workspace"]).status();
    ensure!(build.context("cargo does not start")?.success(), "the build failed; its errors are above");
    Ok(repo.target.join("debug/pentimento-bench"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Whether every line of a requirements file names one version.
    fn pinned(path: &Path) -> bool {
        let text = fs::read_to_string(path).unwrap();
        let mut lines = text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()).peekable();
        lines.peek().is_some()
            && lines.all(|l| l.split_once("==").is_some_and(|(_, v)| v.starts_with(|c: char| c.is_ascii_digit())))
    }

    fn ask(rows: &[&str]) -> Ask {
        Ask {
            rows: rows.iter().map(|r| (*r).into()).collect(),
            rounds: 40,
            threads: None,
            device: "cpu".into(),
            tiny: false,
            quick: false,
        }
    }

    #[test]
    fn a_number_stands_for_all_its_letters() {
        assert!(ask(&[]).wants("7c") && ask(&["1"]).wants("1b") && ask(&["1b", "7"]).wants("7a"));
        assert!(!ask(&["1b"]).wants("1a") && !ask(&["3"]).wants("1a"));
    }

    #[test]
    fn the_requirements_are_pinned_and_the_first_torch_is_ours() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (_, requirements) in ENVIRONMENTS {
            assert!(pinned(&root.join(requirements)), "{requirements}");
        }
        let first = fs::read_to_string(root.join(ENVIRONMENTS[0].1)).unwrap();
        assert!(first.lines().any(|l| l == "torch==2.11.0"));
    }
}

//! One row: a short tournament finds each side's fastest configuration, then both run in turn.

#![expect(clippy::print_stderr, reason = "a command line speaks")]

use super::ratio::{Interval, interval, median};
use super::rows::{Config, Place, Row};
use super::side::{Least, Side};
use anyhow::{Context, Result, bail, ensure};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Most rounds of a match.
    pub rounds: usize,
    /// Turns of a configuration in the tournament.
    pub trials: usize,
    /// Seconds of turns after which a configuration's time is known well enough.
    pub trial_s: f64,
    /// Seconds a turn should take at least; short iterations are repeated.
    pub turn_s: f64,
    /// Seconds after which a match ends, once it has an interval.
    pub budget_s: f64,
    /// Modes of `torch.compile` that are tried with every torch and precision.
    pub modes: &'static [&'static str],
    /// Modes that take minutes: for the fastest configuration of all alone.
    pub long_modes: &'static [&'static str],
}

/// Half-width of the interval at which a match ends.
const PRECISE: f64 = 0.03;

/// Rounds below which there is no interval.
const FEWEST: usize = 6;

/// Share of a turn during which the waiting side may compute: what it takes to notice, and no spinning.
const IDLE_SHARE: f64 = 0.05;

/// Seconds between turns, in which threads that wait at a barrier go to sleep.
const PAUSE: Duration = Duration::from_millis(100);

/// A configuration of a side with its time.
#[derive(Clone, Debug)]
pub struct Timed {
    /// Which of the peers; 0 for ours.
    pub peer: usize,
    /// The configuration.
    pub config: Config,
    /// Seconds an iteration.
    pub seconds: f64,
    /// Iterations that make up a turn.
    pub repeats: usize,
}

/// A finished comparison of two configurations.
pub struct Match {
    /// Id and title of the row.
    pub row: Row,
    /// Why these two: `fastest`, or the precision they have in common.
    pub pairing: &'static str,
    /// Our configuration.
    pub ours: Config,
    /// The peer's.
    pub theirs: Config,
    /// The peer's name.
    pub peer: String,
    /// Seconds an iteration of both sides, round by round.
    pub rounds: Vec<[f64; 2]>,
    /// Of peer time over our time.
    pub interval: Interval,
}

/// Results of a row.
pub struct Outcome {
    /// The fastest pair first, then pairs of equal precision.
    pub matches: Vec<Match>,
    /// Every configuration that was tried, as a sentence.
    pub trials: Vec<String>,
    /// What an iteration takes at least.
    pub least: Option<Least>,
    /// Peak MiB of the programs that both sides launched.
    pub launched: Option<[f64; 2]>,
}

/// Runs a row.
///
/// # Errors
/// A side that fails in its plainest configuration, results that differ, a waiting side that computes.
pub fn contest(row: &Row, ours: &mut Side, peers: &mut [Side], place: &Place, effort: &Effort) -> Result<Outcome> {
    // The peer's side writes what both read.
    let first = peers.first_mut().context("no peer")?;
    first.setup(&place.setup(&row.ask, &Config::PLAIN))?;
    ours.setup(&place.setup(&row.ask, &Config::PLAIN))?;
    let reference = ours.check(&place.scratch.join("checked"))?;
    ours.agree();
    let least = ours.least()?;
    let mut trials = Vec::new();
    let bf16 = row.choice.lowers() && ours.bf16_is_faster();
    if row.choice.lowers() && !bf16 {
        trials.push(format!("{}: bf16 left out on both sides, in which this processor is slower than in fp32", row.id));
    }
    let mut tournament = Tournament { row, place, effort, bf16, reference: &reference, trials: &mut trials };
    let mut own = tournament.eager(ours)?;
    // Every torch: uncompiled, then each precision's fastest layout under the short modes.
    let mut theirs = Vec::new();
    let compiled = |modes: &'static [&'static str]| if row.choice.compiles() { modes } else { &[] };
    for (i, peer) in peers.iter_mut().enumerate() {
        let mut found = tournament.eager(peer)?;
        for (&compile, precision) in compiled(effort.modes).iter().flat_map(|mode| [(mode, "fp32"), (mode, "bf16")]) {
            if let Some(config) = fastest(found.iter().filter(|t| t.config.precision == precision)).map(|t| t.config) {
                found.extend(tournament.attempt(peer, Config { compile, ..config })?);
            }
        }
        theirs.extend(found.into_iter().map(|t| Timed { peer: i, ..t }));
    }
    for &compile in compiled(effort.long_modes) {
        if let Some((peer, config)) = fastest(theirs.iter()).map(|t| (t.peer, t.config)) {
            let found = tournament.attempt(&mut peers[peer], Config { compile, ..config })?;
            theirs.extend(found.map(|t| Timed { peer, ..t }));
        }
    }
    own.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    theirs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let (mine, best) = (own.first().context("nothing of ours ran")?, theirs.first().context("no peer ran")?);
    let mut pairs = vec![("fastest", mine, best)];
    for precision in ["fp32", "bf16"] {
        let of = |list: &'_ [Timed]| list.iter().position(|t| t.config.precision == precision);
        if let (Some(a), Some(b)) = (of(&own), of(&theirs)) {
            pairs.push((precision, &own[a], &theirs[b]));
        }
    }
    let mut matches: Vec<Match> = Vec::new();
    for (pairing, a, b) in pairs {
        let name = peers[b.peer].name.clone();
        let same = matches.iter().find(|m| m.ours == a.config && m.theirs == b.config && m.peer == name);
        let (rounds, interval) = match same {
            Some(m) => (m.rounds.clone(), m.interval),
            None => duel(row, (ours, a), (&mut peers[b.peer], b), place, effort, &reference)?,
        };
        matches.push(Match {
            row: row.clone(),
            pairing,
            ours: a.config,
            theirs: b.config,
            peer: name,
            rounds,
            interval,
        });
    }
    // Programs start anew each time: what the sides themselves hold is not in it.
    let launched = if row.launches() { Some([ours.peak_mib()?, peers[0].peak_mib()?]) } else { None };
    Ok(Outcome { matches, trials, least, launched })
}

/// Sets a side up and compares its results with the reference, which also warms it up, unless that is how it stands.
fn ready(row: &Row, side: &mut Side, place: &Place, config: &Config, reference: &[f64]) -> Result<()> {
    side.setup(&place.setup(&row.ask, config))?;
    if side.agreed() {
        return Ok(());
    }
    let values = side.check(&place.scratch.join("checked"))?;
    let tolerance = row.tolerance[usize::from(config.precision == "bf16")];
    if let Err(why) = agree(&values, reference, tolerance) {
        return Err(Unequal(format!("row {}: {} ({config:?}): {why}", row.id, side.name)).into());
    }
    side.agree();
    Ok(())
}

/// Results that differ: no configuration to skip, but the end of the row.
#[derive(Debug)]
struct Unequal(String);

impl std::fmt::Display for Unequal {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unequal {}

/// Whether two lists are equal up to a share of the largest magnitude.
fn agree(a: &[f64], b: &[f64], tolerance: f64) -> Result<(), String> {
    if a.len() != b.len() {
        return Err(format!("{} results, {} of the other side", a.len(), b.len()));
    }
    if b.is_empty() || !a.iter().chain(b).all(|v| v.is_finite()) {
        return Err(format!("{} results, not all of them finite numbers", b.len()));
    }
    let scale = b.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let gap = a.iter().zip(b).fold(0.0_f64, |m, (x, y)| m.max((x - y).abs()));
    if gap <= tolerance * scale {
        return Ok(());
    }
    Err(format!("results differ by {gap:.3e} where the largest is {scale:.3e}; {tolerance:.0e} of it is allowed"))
}

fn fastest<'a>(of: impl Iterator<Item = &'a Timed>) -> Option<&'a Timed> {
    of.min_by(|a, b| a.seconds.total_cmp(&b.seconds))
}

/// What a trial of any configuration needs, and the sentences on those made.
struct Tournament<'a> {
    row: &'a Row,
    place: &'a Place,
    effort: &'a Effort,
    bf16: bool,
    reference: &'a [f64],
    trials: &'a mut Vec<String>,
}

impl Tournament<'_> {
    fn eager(&mut self, side: &mut Side) -> Result<Vec<Timed>> {
        let mut found = Vec::new();
        for config in Config::eager(self.row.choice, self.bf16) {
            found.extend(self.attempt(side, config)?);
        }
        Ok(found)
    }

    /// None where a compiled configuration does not run.
    fn attempt(&mut self, side: &mut Side, config: Config) -> Result<Option<Timed>> {
        let what = format!("{} {}: {}", self.row.id, side.name, config.words(self.row.choice));
        let (said, timed) = match self.trial(side, &config) {
            Ok(timed) => (format!("{what}: {:.3} ms", timed.seconds * 1e3), Some(timed)),
            Err(error) if error.is::<Unequal>() || config.compile == "eager" => return Err(error),
            Err(error) => (format!("{what}: does not run: {error:#}"), None),
        };
        eprintln!("  {said}");
        self.trials.push(said);
        Ok(timed)
    }

    /// Seconds an iteration of one configuration: the median of a few turns.
    fn trial(&self, side: &mut Side, config: &Config) -> Result<Timed> {
        ready(self.row, side, self.place, config, self.reference)?;
        let once = side.run(1)?;
        let n = repeats(once, self.effort.turn_s);
        let mut times = if n == 1 { vec![once] } else { Vec::new() };
        while times.is_empty()
            || times.len() < self.effort.trials && times.iter().sum::<f64>() * (n as f64) < self.effort.trial_s
        {
            times.push(side.run(n)? / n as f64);
        }
        let seconds = median(&times).context("no trials")?;
        Ok(Timed { peer: 0, config: *config, seconds, repeats: repeats(seconds, self.effort.turn_s) })
    }
}

/// Iterations that make up a turn, where one takes `once` seconds.
fn repeats(once: f64, turn_s: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=1000")]
    let n = (turn_s / once).ceil().clamp(1.0, 1000.0) as usize;
    n
}

/// Both sides in turn until the interval is narrow, the rounds are done or time is up.
fn duel(
    row: &Row,
    (ours, a): (&mut Side, &Timed),
    (theirs, b): (&mut Side, &Timed),
    place: &Place,
    effort: &Effort,
    reference: &[f64],
) -> Result<(Vec<[f64; 2]>, Interval)> {
    for (side, timed) in [(&mut *ours, a), (&mut *theirs, b)] {
        ready(row, side, place, &timed.config, reference)?;
    }
    let (mut rounds, start) = (Vec::new(), Instant::now());
    loop {
        let our_time = turn(ours, theirs, a.repeats)?;
        let peer_time = turn(theirs, ours, b.repeats)?;
        rounds.push([our_time, peer_time]);
        let ratios: Vec<f64> = rounds.iter().map(|[o, p]| p / o).collect();
        let Some(interval) = interval(&ratios) else { continue };
        let late = start.elapsed().as_secs_f64() > effort.budget_s && rounds.len() >= FEWEST;
        if interval.half_width() <= PRECISE || rounds.len() >= effort.rounds.max(FEWEST) || late {
            return Ok((rounds, interval));
        }
    }
}

/// Seconds an iteration of one side while the other sleeps.
fn turn(active: &mut Side, waiting: &Side, n: usize) -> Result<f64> {
    sleep(PAUSE);
    let before = waiting.processor_s();
    let seconds = active.run(n)?;
    if let (Some(before), Some(after)) = (before, waiting.processor_s()) {
        // The clock of processor time ticks every 10 ms.
        let used = after - before;
        ensure!(used <= 0.02 + IDLE_SHARE * seconds, "{} computed for {used:.2} s of the other's turn", waiting.name);
    }
    if !seconds.is_finite() {
        bail!("{}: {n} iterations took {seconds} s", active.name);
    }
    Ok(seconds / n as f64)
}

#[cfg(test)]
mod tests {
    use super::super::rows::Choice;
    use super::*;
    use std::process::Command;

    #[test]
    fn results_agree_up_to_a_share_of_the_largest() {
        assert_eq!(agree(&[100.0, 1.0], &[100.0, 1.09], 1e-3), Ok(()));
        assert!(agree(&[100.0, 1.0], &[100.0, 1.11], 1e-3).unwrap_err().contains("differ by 1.1"));
        assert!(agree(&[f64::NAN, 1.0], &[1.0, 1.0], 1.0).is_err());
        assert!(agree(&[], &[], 1.0).is_err());
        assert!(agree(&[1.0], &[1.0, 2.0], 1.0).unwrap_err().contains("1 results, 2 of"));
        assert!(agree(&[0.0], &[f64::INFINITY], 1.0).is_err());
    }

    /// A side in shell whose iterations take a fixed time by its own account, and whose results are a number.
    fn fake(folder: &std::path::Path, name: &str, ms: usize, result: &str) -> Side {
        let script = format!(
            "while read -r command rest; do case $command in setup) echo 'ready {{}}';; \
             check) printf '{result}' > \"$rest\"; echo 'checked 1';; \
             run) echo \"seconds $(( rest * {ms} ))e-3\";; least) echo 'least unknown';; *) exit 0;; esac; done"
        );
        Side::start(name, Command::new("sh").args(["-c", &script]), &folder.join(name)).unwrap()
    }

    const ONE: &str = r"\000\000\000\000\000\000\360\077";
    const TWO: &str = r"\000\000\000\000\000\000\000\100";

    fn row() -> Row {
        let ask = serde_json::json!({"work": "fake", "shared": "fake"});
        Row { id: "0", title: "a fake", ask, tolerance: [1e-3; 2], choice: Choice::Plain }
    }

    fn effort() -> Effort {
        Effort { rounds: 40, trials: 1, trial_s: 1.0, turn_s: 0.01, budget_s: 60.0, modes: &[], long_modes: &[] }
    }

    #[test]
    fn a_peer_that_takes_three_times_as_long_has_ratio_three() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { scratch: folder.path().into(), threads: 1, device: "cpu".into() };
        let (mut ours, slow) = (fake(folder.path(), "ours", 10, ONE), fake(folder.path(), "slow", 90, ONE));
        let mut peers = [slow, fake(folder.path(), "fast", 30, ONE)];
        let outcome = contest(&row(), &mut ours, &mut peers, &place, &effort()).unwrap();
        let m = &outcome.matches[0];
        assert_eq!((m.peer.as_str(), m.rounds.len()), ("fast", FEWEST));
        assert!((m.interval.median - 3.0).abs() < 1e-9 && m.interval.half_width() < 1e-9, "{:?}", m.interval);
        // The tournament of a row without choices is one trial a side; equal precision is the same match.
        assert_eq!((outcome.trials.len(), outcome.matches.len(), outcome.least), (3, 2, None));
    }

    #[test]
    fn a_work_is_built_and_checked_once_and_short_iterations_fill_a_turn() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("commands");
        let script = format!(
            "while read -r command rest; do echo \"$command ${{rest%% *}}\" >> {}; case $command in setup) echo 'ready {{}}';; \
             check) printf '{ONE}' > \"$rest\"; echo 'checked 1';; run) echo \"seconds ${{rest}}e-3\";; least) echo 'least unknown';; \
             *) exit 0;; esac; done",
            log.display()
        );
        let mut ours =
            Side::start("ours", Command::new("sh").args(["-c", &script]), &folder.path().join("log")).unwrap();
        let place = Place { scratch: folder.path().into(), threads: 1, device: "cpu".into() };
        // Turns of ten iterations of a millisecond; the second passes 15 ms.
        let effort = Effort { trials: 9, trial_s: 0.015, ..effort() };
        contest(&row(), &mut ours, &mut [fake(folder.path(), "peer", 10, ONE)], &place, &effort).unwrap();
        drop(ours);
        let said = std::fs::read_to_string(&log).unwrap();
        let count = |command: &str| said.lines().filter(|l| l.starts_with(command)).count();
        assert_eq!((count("setup"), count("check"), count("run 1")), (1, 1, 1 + 2 + FEWEST), "{said}");
        assert_eq!(count("run 10"), 2 + FEWEST, "{said}");
    }

    #[test]
    fn modes_that_take_minutes_to_compile_are_tried_on_the_fastest_peer() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { scratch: folder.path().into(), threads: 1, device: "cpu".into() };
        let mut ours = fake(folder.path(), "ours", 10, ONE);
        let mut peers = [fake(folder.path(), "slow", 90, ONE), fake(folder.path(), "fast", 30, ONE)];
        let effort = Effort { modes: &["default"], long_modes: &["max-autotune"], ..effort() };
        let row = Row { choice: Choice::Single, ..row() };
        let trials = contest(&row, &mut ours, &mut peers, &place, &effort).unwrap().trials;
        let tried = |word: &str| trials.iter().filter(|t| t.contains(word)).map(|t| &t[..6]).collect::<Vec<_>>();
        assert_eq!((tried("default"), tried("max-autotune")), (vec!["0 slow", "0 fast"], vec!["0 fast"]));
    }

    #[test]
    fn unequal_results_end_the_row() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { scratch: folder.path().into(), threads: 1, device: "cpu".into() };
        let (mut ours, theirs) = (fake(folder.path(), "ours", 10, ONE), fake(folder.path(), "theirs", 10, TWO));
        let said = contest(&row(), &mut ours, &mut [theirs], &place, &effort()).err().unwrap().to_string();
        assert!(said.contains("row 0: theirs") && said.contains("differ by 1.0"), "{said}");
    }
}

//! What a run leaves: `raw.csv` with every round, `summary.md` for readers.

use super::contest::Match;
use super::ratio::{geometric_mean, interval};
use super::side::Least;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// A finished row, in the words of the tables.
pub struct Line {
    /// `1a`.
    pub id: String,
    /// What is compared.
    pub title: String,
    /// `fastest`, or the precision that both share.
    pub pairing: String,
    /// Our configuration.
    pub ours: String,
    /// The peer and its configuration.
    pub peer: String,
    /// Seconds of both sides, round by round.
    pub rounds: Vec<[f64; 2]>,
    /// What an iteration takes at least.
    pub least: Option<Least>,
    /// Pictures of an iteration, where it is said.
    pub batch: Option<f64>,
}

impl Line {
    /// Of a match.
    pub fn of(m: &Match, least: Option<Least>) -> Self {
        let join = |parts: [String; 2]| parts.iter().filter(|p| !p.is_empty()).cloned().collect::<Vec<_>>().join(": ");
        Self {
            id: m.row.id.into(),
            title: m.row.title.into(),
            pairing: m.pairing.into(),
            ours: m.ours.words(m.row.choice),
            peer: join([m.peer.clone(), m.theirs.words(m.row.choice)]),
            rounds: m.rounds.clone(),
            least,
            batch: m.row.ask["batch"].as_f64(),
        }
    }

    fn ratios(&self) -> Vec<f64> {
        self.rounds.iter().map(|[ours, peer]| peer / ours).collect()
    }

    /// Median ratio; None where there are too few rounds.
    pub fn ratio(&self) -> Option<f64> {
        interval(&self.ratios()).map(|i| i.median)
    }

    fn seconds(&self, side: usize) -> Option<f64> {
        super::ratio::median(&self.rounds.iter().map(|r| r[side]).collect::<Vec<_>>())
    }

    /// One line of a Markdown table.
    pub fn markdown(&self) -> String {
        let seconds = |side| self.seconds(side).map_or("-".into(), |s| format!("{s:.6}"));
        let numbers = interval(&self.ratios())
            .map_or("- | - | -".into(), |i| format!("{:.3} | {:.3} | {:.3}", i.median, i.low, i.high));
        let (id, title, n) = (&self.id, &self.title, self.rounds.len());
        let (ours, peer) = (&self.ours, &self.peer);
        format!("| {id} {title} | {} | {} | {numbers} | {n} | {ours} | {peer} |", seconds(0), seconds(1))
    }
}

/// Everything of a run.
#[derive(Default)]
pub struct Report {
    /// Versions, threads, machine, as `name: value`.
    pub about: Vec<(String, String)>,
    /// Finished matches.
    pub lines: Vec<Line>,
    /// What the machine does at most.
    pub limits: Option<Limits>,
    /// Tables of how cost grows with work.
    pub scaling: String,
    /// Peak memory, `(row, ours MiB, peer MiB)`.
    pub memory: Vec<(String, f64, f64)>,
    /// All configurations that were tried.
    pub trials: Vec<String>,
    /// How long each row took, and all of them.
    pub seconds: Vec<(String, f64)>,
    /// Rows that did not run, each with its reason.
    pub absent: Vec<(String, String)>,
}

const HEADER: &str =
    "| row | ours_s | peer_s | ratio | low | high | rounds | ours | peer |\n|---|---|---|---|---|---|---|---|---|\n";

impl Report {
    /// Writes both files into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("{}: cannot make", folder.display()))?;
        for (name, text) in [("raw.csv", self.csv()), ("summary.md", self.summary())] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("{}: cannot write", path.display()))?;
        }
        Ok(())
    }

    /// One line a round; `low` and `high` are the interval of the rounds so far.
    fn csv(&self) -> String {
        let mut text = String::from("row,pairing,ours,peer,round,ours_s,peer_s,ratio,low,high\n");
        for line in &self.lines {
            let ratios = line.ratios();
            for (i, ([ours_s, peer_s], ratio)) in line.rounds.iter().zip(&ratios).enumerate() {
                let so_far = interval(&ratios[..=i]);
                let ends = so_far.map_or(",".into(), |j| format!("{:.5},{:.5}", j.low, j.high));
                let (id, pairing, ours, peer) = (&line.id, &line.pairing, &line.ours, &line.peer);
                let round = i + 1;
                let _ = writeln!(
                    text,
                    "{id},{pairing},\"{ours}\",\"{peer}\",{round},{ours_s:.9},{peer_s:.9},{ratio:.5},{ends}"
                );
            }
        }
        text
    }

    /// For readers; what loses stands beside what wins.
    pub fn summary(&self) -> String {
        let mut text =
            String::from("# Ours beside the peers\n\nratio = peer time / our time; above 1 we are faster.\n\n");
        for (name, value) in &self.about {
            let _ = writeln!(text, "- {name}: {value}");
        }
        let _ = write!(text, "\n## Against the fastest configuration\n\n{HEADER}");
        for line in self.lines.iter().filter(|l| l.pairing == "fastest") {
            let _ = writeln!(text, "{}", line.markdown());
        }
        for (name, rows) in [("1 to 3", ['1', '3']), ("4 to 7", ['4', '7'])] {
            let inside =
                |l: &&Line| l.pairing == "fastest" && (rows[0]..=rows[1]).contains(&l.id.chars().next().unwrap_or(' '));
            let ratios: Vec<f64> = self.lines.iter().filter(inside).filter_map(Line::ratio).collect();
            if let Some(mean) = geometric_mean(&ratios) {
                let _ = writeln!(text, "\nGeometric mean of rows {name} ({} of them): {mean:.3}", ratios.len());
            }
        }
        let _ = write!(text, "\n## At equal precision\n\n{HEADER}");
        for line in self.lines.iter().filter(|l| l.pairing != "fastest") {
            let _ = writeln!(text, "{}", line.markdown());
        }
        if let Some(limits) = &self.limits {
            text += &self.distances(limits);
        }
        if !self.scaling.is_empty() {
            let _ = write!(text, "\n## Growth of cost with work, ours alone\n\n{}", self.scaling);
        }
        if !self.memory.is_empty() {
            text += "\n## Row 8: peak memory, MiB\n\n| row | ours | peer | peer / ours |\n|---|---|---|---|\n";
            for (row, ours, peer) in &self.memory {
                let _ = writeln!(text, "| {row} | {ours:.0} | {peer:.0} | {:.2} |", peer / ours);
            }
        }
        if !self.absent.is_empty() {
            text += "\n## Not measured\n\n";
            for (row, why) in &self.absent {
                let _ = writeln!(text, "- row {row}: {why}");
            }
        }
        let minutes: Vec<String> = self.seconds.iter().map(|(row, s)| format!("{row} {:.1}", s / 60.0)).collect();
        let _ = write!(text, "\n## Time taken, minutes\n\n{}\n", minutes.join(", "));
        text += "\n## Configurations tried\n\n";
        for trial in &self.trials {
            let _ = writeln!(text, "- {trial}");
        }
        text
    }
}

/// Rates that the machine reached: 10^9 operations and bytes a second.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of f32 products.
    pub f32: f64,
    /// Of bf16 products, where there are any.
    pub bf16: Option<f64>,
    /// Bandwidth.
    pub triad: f64,
}

impl Limits {
    /// Of what `pentimento-bench limits --threads` prints: the fastest products of any size.
    pub fn parse(said: &str) -> Result<Self> {
        let all: serde_json::Value = serde_json::from_str(said).context("limits")?;
        let fastest = |name: &str| {
            let rates = all[name].as_array().into_iter().flatten().filter_map(|pair| pair[1].as_f64());
            rates.reduce(f64::max)
        };
        let triad = all["triad"].as_f64().context("limits: no triad")?;
        Ok(Self { f32: fastest("f32").context("limits: no f32")?, bf16: fastest("bf16"), triad })
    }
}

impl Report {
    /// How far our times are from what products alone, and the traffic of weights alone, would take.
    fn distances(&self, limits: &Limits) -> String {
        let bf16 = limits.bf16.map_or("none in bf16".into(), |rate| format!("{rate:.0} in bf16"));
        let mut text = format!(
            "\n## Distance to the machine's limits, ours alone\n\nProducts: {:.0} GFLOP/s in fp32, {bf16}; memory: {:.1} GB/s. A \
             multiply-add is two operations. Traffic counts weights, gradients, moments and averages, as if no cache held them.\n\n\
             | row | ours, ms | pictures/s | products alone, ms | share of the time | weights alone, ms | share |\n\
             |---|---|---|---|---|---|---|\n",
            limits.f32, limits.triad
        );
        for (i, line) in self.lines.iter().enumerate() {
            // The fastest of ours is often that of a pair of equal precision too.
            if self.lines[..i].iter().any(|l| l.id == line.id && l.ours == line.ours) {
                continue;
            }
            let rate = if line.ours.contains("bf16") { limits.bf16 } else { Some(limits.f32) };
            let (Some(least), Some(rate), Some(seconds)) = (line.least, rate, line.seconds(0)) else { continue };
            let [products, weights] = [2.0 * least.macs / rate / 1e6, least.bytes / limits.triad / 1e6];
            let ms = seconds * 1e3;
            let rate = line.batch.map_or("-".into(), |n| format!("{:.1}", n / seconds));
            let _ = writeln!(
                text,
                "| {} {}, {} | {ms:.3} | {rate} | {products:.3} | {:.2} | {weights:.3} | {:.2} |",
                line.id,
                line.title,
                line.ours,
                products / ms,
                weights / ms
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, pairing: &str, rounds: usize) -> Line {
        let rounds = (0..rounds).map(|i| [0.01, 0.02 + 0.001 * i as f64]).collect();
        let (title, ours, peer) = ("a row".into(), "fp32".into(), "torch: eager, fp32".into());
        Line { id: id.into(), title, pairing: pairing.into(), ours, peer, rounds, least: None, batch: Some(4.0) }
    }

    #[test]
    fn every_round_is_a_line_and_intervals_come_with_the_sixth() {
        let report = Report { lines: vec![line("1a", "fastest", 7)], ..Report::default() };
        let csv = report.csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[1], "1a,fastest,\"fp32\",\"torch: eager, fp32\",1,0.010000000,0.020000000,2.00000,,");
        assert!(lines[6].ends_with(",2.50000,2.00000,2.50000"), "{}", lines[6]);
    }

    #[test]
    fn the_summary_keeps_groups_apart_and_names_what_is_absent() {
        let lines = vec![line("1a", "fastest", 6), line("1a", "fp32", 6), line("7a", "fastest", 3)];
        let absent = vec![("5".into(), "no code".into())];
        let memory = vec![("1b".into(), 100.0, 250.0)];
        let text = Report { lines, absent, memory, ..Report::default() }.summary();
        assert!(text.contains("Geometric mean of rows 1 to 3 (1 of them): 2.24"), "{text}");
        assert!(!text.contains("rows 4 to 7"), "three rounds have no interval: {text}");
        assert!(text.contains("| 7a a row | 0.010000 | 0.021000 | - | - | - | 3 |"), "{text}");
        assert!(text.contains("- row 5: no code") && text.contains("| 1b | 100 | 250 | 2.50 |"));
    }

    /// 10 ms for 2 * 5e8 operations at 200 GFLOP/s, which take 5; and for 1e7 bytes at 10 GB/s, which take 1.
    #[test]
    fn distances_are_shares_of_the_time() {
        let limits =
            Limits::parse(r#"{"threads":2,"f32":[[1024,150.0],[2048,200.0]],"bf16":[],"copy":9.0,"triad":10.0}"#)
                .unwrap();
        assert!(limits.bf16.is_none() && Limits::parse("{}").is_err());
        let least = Some(Least { macs: 5e8, bytes: 1e7 });
        let both = ["fastest", "fp32"].map(|pairing| Line { least, ..line("1a", pairing, 6) });
        let lines = both.into_iter().chain([line("5a", "fastest", 6)]).collect();
        let text = Report { lines, limits: Some(limits), ..Report::default() }.summary();
        assert_eq!(
            text.matches("| 1a a row, fp32 | 10.000 | 400.0 | 5.000 | 0.50 | 1.000 | 0.10 |").count(),
            1,
            "{text}"
        );
        assert!(!text.contains("5a a row, fp32 |"), "{text}");
    }
}

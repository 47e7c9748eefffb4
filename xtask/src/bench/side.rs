//! One side of the comparison: a long-lived process that answers the line protocol of `benches/README.md`.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Clock ticks a second in `/proc/<pid>/stat`; fixed in Linux's interface to programs.
const TICKS: f64 = 100.0;

/// What an iteration takes at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Least {
    /// Multiply-adds.
    pub macs: f64,
    /// Bytes of weights, and of what belongs to them, that are read or written.
    pub bytes: f64,
}

/// A running side.
pub struct Side {
    /// As it is called in messages.
    pub name: String,
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    stands: Option<Standing>,
}

/// A work that a side has built.
struct Standing {
    ask: Value,
    /// What the side says of itself.
    said: Value,
    /// Its results are those of the reference.
    agreed: bool,
}

impl Side {
    /// Starts the process; what it writes to stderr goes to the file `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let log = fs::File::create(log).with_context(|| format!("{}: cannot write", log.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{name}: does not start"))?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let from = BufReader::new(from.context("no pipe")?);
        Ok(Self { name: name.to_owned(), child, to, from, stands: None })
    }

    /// One command and its answer; the answer's first word must be `word`, and what follows is returned.
    fn ask(&mut self, command: &str, word: &str) -> Result<String> {
        let to = self.to.as_mut().with_context(|| format!("{}: closed", self.name))?;
        writeln!(to, "{command}").and_then(|()| to.flush()).with_context(|| format!("{}: gone", self.name))?;
        let mut answer = String::new();
        let n = self.from.read_line(&mut answer).with_context(|| format!("{}: unreadable", self.name))?;
        ensure!(n > 0, "{}: ended in the middle of `{}`; see its log", self.name, first_word(command));
        let answer = answer.trim();
        match answer.split_once(' ') {
            Some((w, rest)) if w == word => Ok(rest.to_owned()),
            Some(("error", sentence)) => bail!("{}: {sentence}", self.name),
            _ => bail!("{}: answered `{answer}` where `{word} ...` was expected", self.name),
        }
    }

    /// Builds a work, unless it is the one that stands.
    pub fn setup(&mut self, ask: &Value) -> Result<()> {
        if self.stands.as_ref().is_some_and(|s| s.ask == *ask) {
            return Ok(());
        }
        self.stands = None;
        let said = self.ask(&format!("setup {ask}"), "ready")?;
        let said = serde_json::from_str(&said).with_context(|| format!("{}: `{said}` is no JSON", self.name))?;
        self.stands = Some(Standing { ask: ask.clone(), said, agreed: false });
        Ok(())
    }

    /// Whether products in bfloat16 are faster there, as the side itself has said.
    pub fn bf16_is_faster(&self) -> bool {
        self.stands.as_ref().is_some_and(|s| s.said["bf16_is_faster"] == true)
    }

    /// Whether the results of the work that stands have been found right.
    pub fn agreed(&self) -> bool {
        self.stands.as_ref().is_some_and(|s| s.agreed)
    }

    /// The results of the work that stands are right.
    pub fn agree(&mut self) {
        if let Some(s) = &mut self.stands {
            s.agreed = true;
        }
    }

    /// The results of the work, by way of a file.
    pub fn check(&mut self, file: &Path) -> Result<Vec<f64>> {
        self.ask(&format!("check {}", file.display()), "checked")?;
        let bytes = fs::read(file).with_context(|| format!("{}: cannot read", file.display()))?;
        let eight = |c: &[u8]| <[u8; 8]>::try_from(c).map_or(f64::NAN, f64::from_le_bytes);
        Ok(bytes.chunks(8).map(eight).collect())
    }

    /// Seconds of `n` iterations.
    pub fn run(&mut self, n: usize) -> Result<f64> {
        let said = self.ask(&format!("run {n}"), "seconds")?;
        let seconds: f64 = said.parse().with_context(|| format!("{}: `{said}` is no number", self.name))?;
        ensure!(seconds > 0.0, "{}: {n} iterations took {seconds} s", self.name);
        Ok(seconds)
    }

    /// Multiply-adds and bytes of weights that an iteration takes at least; None where they are not counted.
    pub fn least(&mut self) -> Result<Option<Least>> {
        let said = self.ask("least", "least")?;
        let Some((macs, bytes)) = said.split_once(' ') else { return Ok(None) };
        let number = |text: &str| text.parse().with_context(|| format!("{}: `{text}` is no number", self.name));
        Ok(Some(Least { macs: number(macs)?, bytes: number(bytes)? }))
    }

    /// The most MiB that were ever resident.
    pub fn peak_mib(&mut self) -> Result<f64> {
        let said = self.ask("memory", "peak")?;
        Ok(said.parse::<f64>().with_context(|| format!("{}: `{said}` is no number", self.name))? / 1024.0)
    }

    /// Processor seconds used so far by all threads; None where the system does not tell.
    pub fn processor_s(&self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // The second field, in brackets, may hold anything; utime and stime are the 14th and 15th.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |i: usize| fields.get(i)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) / TICKS)
    }
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or(line)
}

impl Drop for Side {
    fn drop(&mut self) {
        // The end of its input ends it. What still computes is not waited for.
        self.to = None;
        for _ in 0..20 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A side written in shell: it answers as told, fails once, and then hangs up.
    const FAKE: &str = r#"
while read -r command rest; do
  case "$command" in
    setup) echo 'ready {"bf16_is_faster":true}' ;;
    check) printf '\000\000\000\000\000\000\370\077\000\000\000\000\000\000\000\300' > "$rest"; echo "checked 2" ;;
    run) if [ "$rest" = 13 ]; then echo "error ValueError: unlucky"; else echo "seconds 0.5"; fi ;;
    memory) echo "peak 2048" ;;
    least) echo "least 3000 40" ;;
    *) exit 0 ;;
  esac
done
"#;

    fn fake(folder: &Path) -> Side {
        Side::start("fake", Command::new("sh").args(["-c", FAKE]), &folder.join("log")).unwrap()
    }

    #[test]
    fn every_command_has_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let mut side = fake(folder.path());
        let ask = serde_json::json!({"a": 1});
        side.setup(&ask).unwrap();
        assert!(side.bf16_is_faster() && !side.agreed());
        assert_eq!(format!("{:?}", side.check(&folder.path().join("out")).unwrap()), "[1.5, -2.0]");
        assert!(!side.agreed());
        side.agree();
        // A work that stands is not built again, and keeps that its results are right; another is new.
        side.setup(&ask).unwrap();
        assert!(side.agreed());
        side.setup(&serde_json::json!({"a": 2})).unwrap();
        assert!(!side.agreed());
        assert!((side.run(3).unwrap() - 0.5).abs() < 1e-12);
        assert!((side.peak_mib().unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(side.least().unwrap(), Some(Least { macs: 3000.0, bytes: 40.0 }));
        assert!(side.processor_s().unwrap() < 1.0);
    }

    #[test]
    fn an_error_is_a_sentence_and_the_side_lives_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut side = fake(folder.path());
        assert_eq!(side.run(13).unwrap_err().to_string(), "fake: ValueError: unlucky");
        assert!(side.run(1).is_ok());
        assert!(side.ask("run 1", "peak").unwrap_err().to_string().contains("answered `seconds 0.5`"));
        let gone = side.ask("leave", "x").unwrap_err().to_string();
        assert_eq!(gone, "fake: ended in the middle of `leave`; see its log");
    }
}

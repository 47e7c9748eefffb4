//! Reading what `cargo test -- --show-output` prints: totals, what to show of it, and which tests skipped themselves.

use std::fmt;
use std::ops::AddAssign;

/// Counts of tests and checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Ran and held.
    pub passed: usize,
    /// Ran and did not hold.
    pub failed: usize,
    /// Did not run: ignored, or said `skipped:`.
    pub skipped: usize,
}

impl Totals {
    /// One check that is not a test, such as the format.
    pub fn one(held: bool) -> Self {
        Self { passed: usize::from(held), failed: usize::from(!held), skipped: 0 }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// A test that passed only because it left: it printed a line beginning with `skipped:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The test's name.
    pub test: String,
    /// What it said after `skipped:`.
    pub why: String,
}

/// The output of all test processes, one line after the other.
#[derive(Default)]
pub struct Reader {
    /// Sum over the processes read so far.
    pub totals: Totals,
    /// Every test that skipped itself, once.
    pub skips: Vec<Skip>,
    part: Part,
}

/// libtest prints the results, then `successes:` with the output of each passing test, then `failures:`, then a result.
#[derive(Default, PartialEq, Eq)]
enum Part {
    #[default]
    Results,
    Successes {
        of: String,
    },
    Failures,
}

impl Reader {
    /// Takes one line in; true if a person should see it.
    pub fn line(&mut self, line: &str) -> bool {
        let text = line.trim();
        if let Some(result) = text.strip_prefix("test result: ") {
            self.part = Part::Results;
            self.add(result);
            return true;
        }
        match text {
            "successes:" => self.part = Part::Successes { of: String::new() },
            "failures:" => self.part = Part::Failures,
            _ => {}
        }
        match &mut self.part {
            Part::Results => !(text.is_empty() || text.starts_with("test ") && text.ends_with("... ok")),
            Part::Failures => true,
            Part::Successes { of } => {
                if let Some(name) = text.strip_prefix("---- ").and_then(|t| t.strip_suffix(" stdout ----")) {
                    *of = name.to_owned();
                } else if let Some(why) = text.strip_prefix("skipped:") {
                    let (test, why) = (of.clone(), why.trim().to_owned());
                    if self.skips.last().is_none_or(|s| s.test != test) {
                        self.skips.push(Skip { test, why });
                        self.totals.skipped += 1;
                        self.totals.passed = self.totals.passed.wrapping_sub(1);
                    }
                }
                false
            }
        }
    }

    fn add(&mut self, result: &str) {
        let count = |word: &str| {
            let before = result.split(&[';', '.'][..]).find_map(|part| part.trim().strip_suffix(word));
            before.and_then(|n| n.trim().parse::<usize>().ok()).unwrap_or(0)
        };
        // A skip is counted before the result line that counts it as passed, so the difference may wrap until here.
        self.totals.passed = self.totals.passed.wrapping_add(count("passed"));
        self.totals.failed += count("failed");
        self.totals.skipped += count("ignored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "
running 4 tests
test a::holds ... ok
test a::needs_mnist ... ok
test a::breaks ... FAILED
test a::prints ... ok

successes:

---- a::needs_mnist stdout ----
skipped: ../shared/data/mnist is not there
skipped: nor is fashion-mnist

---- a::prints stdout ----
loss 0.5

successes:
    a::holds
    a::needs_mnist
    a::prints

failures:

---- a::breaks stdout ----
thread panicked

failures:
    a::breaks

test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.01s

running 2 tests
test b::one ... ok
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn totals_and_skips_are_read() {
        let mut reader = Reader::default();
        for line in SAMPLE.lines() {
            reader.line(line);
        }
        assert_eq!(reader.totals, Totals { passed: 4, failed: 1, skipped: 1 });
        assert_eq!(reader.totals.to_string(), "4 passed, 1 failed, 1 skipped");
        let why = "../shared/data/mnist is not there".to_owned();
        assert_eq!(reader.skips, [Skip { test: "a::needs_mnist".into(), why }]);
    }

    #[test]
    fn failures_are_shown_and_successes_are_not() {
        let mut reader = Reader::default();
        let shown: Vec<&str> = SAMPLE.lines().filter(|line| reader.line(line)).collect();
        assert!(shown.contains(&"thread panicked"));
        assert!(shown.contains(&"test a::breaks ... FAILED"));
        assert!(!shown.contains(&"loss 0.5"));
        assert!(!shown.contains(&"test a::holds ... ok"));
    }
}

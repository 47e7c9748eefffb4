//! The README's table of claims, computed from `evidence/` and never typed.

use serde_json::Value;
use std::fmt::Write;

/// What stands around the table.
pub const MARKS: [&str; 2] = ["<!-- claims: made by `cargo xtask readme` -->", "<!-- end of claims -->"];

/// The table of some evidence files, given as (path, text), in the order of their paths.
pub fn table(evidence: &[(&str, &str)]) -> String {
    let mut out = String::from("| method | paper | claim | found | verdict |\n|---|---|---|---|---|\n");
    let mut rows = 0;
    for (path, text) in evidence {
        let Ok(e) = serde_json::from_str::<Value>(text) else { continue };
        let word = |key: &str| e[key].as_str().unwrap_or("?").to_owned();
        let look = e["primary"]["looks"].as_array().and_then(|l| l.last()).cloned().unwrap_or_default();
        // Ratios are judged by their logarithms and read as factors.
        let ratio = e["primary"]["predicate"]["scale"] == "ratio";
        let number = |key: &str| {
            let x = look[key].as_f64().unwrap_or(f64::NAN);
            if ratio { x.exp() } else { x }
        };
        let unit = if ratio { "factor " } else { "" };
        let [mean, low, high] = ["mean", "low", "high"].map(number);
        let found = format!("{unit}{mean:.3} [{low:.3}, {high:.3}], n = {}", look["n"]);
        let verdict = word("verdict").replace('_', " ");
        let (slug, arxiv, claim) = (word("method"), word("arxiv"), word("claim"));
        let _ = writeln!(
            out,
            "| [`{slug}`]({path}) | [{arxiv}](https://arxiv.org/abs/{arxiv}) | {claim} | {found} | {verdict} |"
        );
        rows += 1;
    }
    if rows == 0 { "No claim has been run yet.\n".into() } else { out }
}

/// A README with its table made anew; nothing where it has no marks.
pub fn renewed(readme: &str, table: &str) -> Option<String> {
    let (head, rest) = readme.split_once(MARKS[0])?;
    let (_, tail) = rest.split_once(MARKS[1])?;
    Some(format!("{head}{}\n\n{table}\n{}{tail}", MARKS[0], MARKS[1]))
}

/// Whether a path is an evidence file.
pub fn is_evidence(path: &str) -> bool {
    path.strip_prefix("evidence/").is_some_and(|f| f.ends_with(".json") && !f.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIDENCE: &str = r#"{"method": "a", "arxiv": "2401.01234", "claim": "x is higher", "verdict": "not_reproduced",
        "primary": {"looks": [{"n": 5, "mean": 0.1, "low": -0.2, "high": 0.4}]}}"#;

    #[test]
    fn the_table_is_a_line_per_claim_and_replaces_the_old_one() {
        let table = table(&[("evidence/a.json", EVIDENCE)]);
        let want = "| [`a`](evidence/a.json) | [2401.01234](https://arxiv.org/abs/2401.01234) | x is higher | 0.100 [-0.200, 0.400], n = 5 | not reproduced |";
        assert_eq!(table.lines().nth(2), Some(want));
        let ratio = EVIDENCE.replace("{\"looks\"", "{\"predicate\": {\"scale\": \"ratio\"}, \"looks\"");
        assert!(super::table(&[("evidence/a.json", &ratio)]).contains("| factor 1.105 [0.819, 1.492], n = 5 |"));
        let readme = format!("head\n{}\nold\n{}\ntail\n", MARKS[0], MARKS[1]);
        let new = renewed(&readme, &table).unwrap();
        assert!(new.starts_with("head\n") && new.ends_with("\ntail\n") && new.contains(want) && !new.contains("old"));
        assert_eq!(renewed(&new, &table).unwrap(), new);
        assert_eq!(renewed("no marks", &table), None);
    }

    #[test]
    fn without_evidence_it_says_so() {
        assert_eq!(super::table(&[]), "No claim has been run yet.\n");
        assert!(is_evidence("evidence/a.json") && !is_evidence("evidence/a.png") && !is_evidence("evidence/x/a.json"));
    }
}

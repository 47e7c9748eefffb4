//! Evidence as a page to look at, and all of it as one gallery.

use crate::{Error, Evidence, Found, Interval, Predicate, Scale, picture_path};
use pentimento_io::plots::{Bar, Bars};
use pentimento_io::report::{Picture, Report, Table};
use pentimento_io::source::Source;
use std::path::Path;

/// The largest picture a page takes in.
const LIMIT: u64 = 64 << 20;

/// The page of one claim; `path` is that of its evidence, beside which its pictures lie.
///
/// # Errors
/// A picture that cannot be read.
pub fn page(e: &Evidence, path: &Path) -> Result<String, Error> {
    let report = Report::new(format!("{}: {}", e.method, e.verdict.words())).subtitle(format!(
        "{} (arXiv {}), {} budget",
        e.title,
        e.arxiv,
        e.budget.name()
    ));
    let report = measured(found(report.section("Claim"), e), e);
    let report = pictures(report.section("Pictures"), e, path)?;
    let config = serde_json::to_string_pretty(&e.config).unwrap_or_default();
    let mut facts = vec![
        ("Revision", e.revision.clone()),
        ("Margin fixed by", e.margin_fixed.revision.clone()),
        ("Changes of the margin", e.margin_fixed.history.len().saturating_sub(1).to_string()),
        ("Plan", e.plan.clone()),
        ("Numerics", e.numerics.to_string()),
        ("Device", e.device.clone()),
        ("Time of all runs", format!("{:.0} s", e.seconds)),
        ("Peak memory", format!("{:.0} MiB", e.peak_mib)),
    ];
    facts.extend(e.machine.iter().map(|(k, v)| (k.as_str(), v.clone())));
    facts.extend(e.data.iter().map(|d| ("Data", d.clone())));
    Ok(report.section("Settings").code(&config).section("Where it ran").facts(&facts).render())
}

/// All evidence on one page: a table of verdicts, then a section for each claim with its pictures.
///
/// # Errors
/// As [`page`].
pub fn gallery(all: &[(Evidence, std::path::PathBuf)]) -> Result<String, Error> {
    let row = |e: &Evidence| {
        let look = e.primary.looks.last();
        let found = look.map_or(String::new(), |l| interval(&e.primary.predicate, l));
        let n = look.map_or(0, |l| l.n).to_string();
        vec![e.method.clone(), e.family.clone(), e.claim.clone(), found, n, e.verdict.words().into()]
    };
    let columns = ["method", "family", "claim", "found, 95 %", "seeds", "verdict"].map(String::from).into();
    let caption = "The verdicts; about three claims in a hundred without any effect would still pass".into();
    let table = Table { caption, columns, rows: all.iter().map(|(e, _)| row(e)).collect() };
    let mut report = Report::new("Pentimento: methods and their claims")
        .subtitle("computed from the evidence files")
        .section("All claims")
        .table(&table);
    for (e, path) in all {
        report = found(report.section(e.method.clone()).paragraph(&format!("{} (arXiv {})", e.title, e.arxiv)), e);
        report = pictures(report, e, path)?;
    }
    Ok(report.render())
}

/// What was found in the unit of the claim: a difference, or a factor.
fn interval(p: &Predicate, l: &Interval) -> String {
    match p.scale {
        Scale::Difference => format!("{:+.3} [{:+.3}, {:+.3}]", l.mean, l.low, l.high),
        Scale::Ratio => format!("factor {:.3} [{:.3}, {:.3}]", l.mean.exp(), l.low.exp(), l.high.exp()),
    }
}

/// The verdict on a predicate in one line.
pub fn summary(found: &Found) -> String {
    let p = &found.predicate;
    let numbers = found.looks.last().map(|l| interval(p, l));
    let numbers = numbers.unwrap_or_else(|| "not judged below 5 seeds".into());
    format!("{}: {}; {numbers}, {} seeds", found.verdict.words(), p.sentence(), found.differences.len())
}

fn found(report: Report, e: &Evidence) -> Report {
    let also: Vec<Vec<String>> = e.also.iter().map(|f| vec![summary(f)]).collect();
    let bar = |(i, d): (usize, &f64)| Bar { name: format!("seed {i}"), value: *d, interval: None };
    let mut bars: Vec<Bar> = e.primary.differences.iter().enumerate().map(bar).collect();
    if let Some(l) = e.primary.looks.last() {
        bars.push(Bar { name: "mean".into(), value: l.mean, interval: Some((l.low, l.high)) });
    }
    let unit = match e.primary.predicate.scale {
        Scale::Difference => format!("{}, better is positive", e.primary.predicate.metric),
        Scale::Ratio => format!("ln of the ratio of {}, better is positive", e.primary.predicate.metric),
    };
    let title = format!("{} against {}", e.primary.predicate.arm, e.primary.predicate.against);
    let mut report = report.paragraph(&summary(&e.primary));
    if let Some(diagnosis) = &e.diagnosis {
        report = report.paragraph(&format!("Diagnosis: {diagnosis}"));
    }
    report = report.figure(&Bars { title, label: unit, bars }.svg(), "differences of the arms, seed by seed");
    if also.is_empty() {
        return report;
    }
    let caption = "Reported beside it; these decide nothing".into();
    report.table(&Table { caption, columns: vec!["predicate".into()], rows: also })
}

/// Every number of every run.
fn measured(report: Report, e: &Evidence) -> Report {
    let names: Vec<&String> = e.runs.first().map(|c| c.metrics.keys().collect()).unwrap_or_default();
    let columns = ["seed", "arm"].into_iter().map(String::from).chain(names.iter().map(|n| (*n).clone()));
    let row = |c: &crate::Cell| {
        let number = |n: &&String| c.number(n).map_or("–".into(), |v| format!("{v:.4}"));
        [c.seed.to_string(), c.arm.clone()].into_iter().chain(names.iter().map(number)).collect()
    };
    let caption = e.arms.iter().map(|(name, what)| format!("{name}: {what}")).collect::<Vec<_>>().join(" · ");
    report.section("Runs").table(&Table { caption, columns: columns.collect(), rows: e.runs.iter().map(row).collect() })
}

fn pictures(report: Report, e: &Evidence, path: &Path) -> Result<Report, Error> {
    let mut list = Vec::new();
    for cell in &e.runs {
        for (i, caption) in cell.pictures.iter().enumerate() {
            let png = Source::open(&picture_path(path, cell, i))?.whole(LIMIT)?;
            let caption = format!("{}, seed {}: {caption}", cell.arm, cell.seed);
            list.push(Picture { png, alt: caption.clone(), caption, width: 440 });
        }
    }
    Ok(if list.is_empty() { report } else { report.pictures(&list) })
}

//! `pentimento methods`

use crate::exit::{DONE, Outcome};
use crate::terminal::result;
use clap::ValueEnum;
use pentimento_claims::revision::Checkout;
use pentimento_claims::{Evidence, Method, Verdict};
use pentimento_methods::{FAMILIES, planned};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// One family only.
    family: Option<String>,
    /// Only pages whose claim stands so.
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Papers that have no page yet.
    #[arg(long, conflicts_with = "status")]
    planned: bool,
    /// Folder of evidence; that of the checkout if absent.
    #[arg(long)]
    evidence: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    /// The claim holds.
    Reproduced,
    /// It does not.
    NotReproduced,
    /// All seeds are used up and the interval is too wide.
    Inconclusive,
    /// It has not been run.
    Missing,
}

impl Status {
    fn of(verdict: Option<Verdict>) -> Self {
        match verdict {
            Some(Verdict::Reproduced) => Self::Reproduced,
            Some(Verdict::NotReproduced) => Self::NotReproduced,
            Some(Verdict::Inconclusive) => Self::Inconclusive,
            Some(Verdict::Open) | None => Self::Missing,
        }
    }
}

/// The folder of evidence: as named, or that of the checkout around the current folder, or `evidence` here.
pub fn evidence_folder(named: Option<&PathBuf>) -> PathBuf {
    let of_checkout = || Checkout::around(Path::new(".")).map(|c| c.root().join("evidence"));
    named.cloned().or_else(of_checkout).unwrap_or_else(|| "evidence".into())
}

pub fn run(args: &Args) -> Outcome {
    if args.planned {
        for p in planned().filter(|p| args.family.as_deref().is_none_or(|f| f == p.family)) {
            result(&format!("{:<28} {:<12} {:<26} {}", p.slug, p.arxiv, p.family, p.title));
        }
        return Ok(DONE);
    }
    let wanted = |name: &str| args.family.as_deref().is_none_or(|f| f == name);
    let known: Vec<&str> = FAMILIES.iter().map(|f| f.name).collect();
    let family = args.family.as_deref().unwrap_or_default();
    anyhow::ensure!(
        FAMILIES.iter().any(|f| wanted(f.name)),
        "no page is of the family {family}; there are {}",
        known.join(", ")
    );
    let folder = evidence_folder(args.evidence.as_ref());
    for method in FAMILIES.iter().filter(|f| wanted(f.name)).flat_map(|f| f.pages) {
        let evidence = Evidence::of(&folder, method.slug)?;
        if args.status.is_none_or(|s| s == Status::of(evidence.as_ref().map(|e| e.verdict))) {
            result(&line(method, evidence.as_ref())?);
        }
    }
    Ok(DONE)
}

fn line(method: &Method, evidence: Option<&Evidence>) -> anyhow::Result<String> {
    let card = method.card()?;
    let status = evidence.map_or("not run", |e| e.verdict.words());
    let old = evidence.is_some_and(|e| !pentimento_core::is_current(e.numerics));
    let status = if old { format!("{status} (older numerics)") } else { status.into() };
    let gives = card.gives.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(format!("{:<24} {:<12} {:<26} {status:<16} {gives}", method.slug, card.arxiv, method.family))
}

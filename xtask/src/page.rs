//! `cargo xtask new FAMILY/SLUG ARXIV`: the skeleton of a page, its recipe, and its lines in the registry.

#![expect(clippy::print_stderr, reason = "a command line speaks")]

use crate::planned;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::path::Path;

const REGISTRY: &str = "crates/methods/src/registry.rs";

/// Writes what a new page needs; nothing that is there already is touched.
pub fn run(root: &Path, name: &str, arxiv: &str) -> Result<()> {
    let Some((family, slug)) = name.split_once('/') else {
        bail!("{name}: write FAMILY/SLUG, such as geometry/my-slug")
    };
    let word = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    ensure!(word(family) && word(slug), "{name}: a family and a slug are lower-case words joined by dashes");
    let year = year(arxiv).with_context(|| format!("{arxiv}: an arXiv number reads 2401.01234"))?;
    let (module, folder) = (slug.replace('-', "_"), family.replace('-', "_"));
    let page = format!("crates/methods/src/{folder}/{module}.rs");
    let recipe = format!("recipes/{family}/{slug}.toml");
    for path in [&page, &recipe] {
        ensure!(!root.join(path).exists(), "{path}: is there already");
    }
    let title = title(root, slug).unwrap_or_else(|| slug.to_owned());
    let parts = [("{slug}", slug), ("{family}", family), ("{module}", &module), ("{title}", &title)];
    let fill = |text: &str| {
        let text = parts.iter().fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value));
        text.replace("{arxiv}", arxiv).replace("{year}", &year)
    };
    // The registry first: it is what can refuse.
    let registry = read(root, REGISTRY)?;
    known(root, &registry, family)?;
    let registry = registered(&registry, family, &folder, &module)?;
    let topic = format!("crates/methods/src/{folder}/mod.rs");
    if !root.join(&topic).exists() {
        let doc = format!("//! The family `{family}`.\n\npub mod {module};\n");
        write(root, &topic, &doc)?;
        let lib = read(root, "crates/methods/src/lib.rs")?;
        write(root, "crates/methods/src/lib.rs", &with_module(&lib, &folder))?;
    } else {
        let text = read(root, &topic)?;
        write(root, &topic, &with_module(&text, &module))?;
    }
    write(root, REGISTRY, &registry)?;
    write(root, &page, &fill(PAGE))?;
    write(root, &recipe, &fill(RECIPE))?;
    eprintln!("new: {page}, {recipe}\nlines in: {REGISTRY}, {topic}; next: CONTRIBUTING.md");
    Ok(())
}

/// A family is one of the registry or of the table of papers: a slip must not start another.
fn known(root: &Path, registry: &str, family: &str) -> Result<()> {
    let table = std::fs::read_to_string(root.join(planned::TABLE)).unwrap_or_default();
    let planned = table.lines().skip(1).filter_map(|l| l.split('\t').nth(3));
    let named = registry.split("name: \"").skip(1).filter_map(|rest| rest.split('"').next());
    let all: BTreeSet<&str> = planned.chain(named).collect();
    let list = all.iter().copied().collect::<Vec<_>>().join(", ");
    ensure!(
        all.contains(family),
        "{family}: no such family; there are {list} (another goes into {} first)",
        planned::TABLE
    );
    Ok(())
}

/// 2401.01234 is of 2024.
fn year(arxiv: &str) -> Option<String> {
    let (month, number) = arxiv.split_once('.')?;
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
    let fine = month.len() == 4 && (4..=5).contains(&number.len()) && digits(month) && digits(number);
    fine.then(|| format!("20{}", &month[..2]))
}

/// The title of a slug in the table of papers.
fn title(root: &Path, slug: &str) -> Option<String> {
    let table = std::fs::read_to_string(root.join(planned::TABLE)).ok()?;
    let line = table.lines().find(|l| l.split('\t').next() == Some(slug))?;
    line.split('\t').nth(1).map(Into::into)
}

/// A `pub mod` line in its alphabetic place.
fn with_module(text: &str, module: &str) -> String {
    let new = format!("pub mod {module};");
    let mut lines: Vec<&str> = text.lines().collect();
    let after = lines.iter().rposition(|l| l.starts_with("pub mod ") && **l < *new);
    let first = lines.iter().position(|l| l.starts_with("pub mod "));
    let at = after.map(|i| i + 1).or(first).unwrap_or(lines.len());
    lines.insert(at, &new);
    lines.join("\n") + "\n"
}

/// The registry with one page more, behind the others of its family.
fn registered(text: &str, family: &str, folder: &str, module: &str) -> Result<String> {
    let constant = folder.to_uppercase();
    let entry = format!("&{folder}::{module}::METHOD");
    let opening = format!("const {constant}: &[&Method] = &[");
    if let Some(at) = text.find(&opening) {
        let Some(close) = text[at..].find("];") else { bail!("{REGISTRY}: the list {constant} does not end") };
        let list = text[at + opening.len()..at + close].trim().trim_end_matches(',');
        let entries: Vec<&str> = list.split(',').map(str::trim).chain([entry.as_str()]).collect();
        return Ok(format!("{}{}{}", &text[..at], slice(&opening, &entries), &text[at + close + 2..]));
    }
    let Some(families) = text.find("pub const FAMILIES") else { bail!("{REGISTRY}: holds no FAMILIES") };
    let Some(close) = text[families..].find("];") else { bail!("{REGISTRY}: FAMILIES does not end") };
    let at = families + close;
    let head = text[..at].trim_end().trim_end_matches(',');
    let line = format!("Family {{ name: \"{family}\", pages: {constant} }}");
    let rest = &text[at + 2..];
    let text = format!("{head}, {line}];\n\n{}{rest}", slice(&opening, &[entry.as_str()]));
    Ok(text.replacen("use crate::", &format!("use crate::{folder};\nuse crate::"), 1))
}

fn slice(opening: &str, entries: &[&str]) -> String {
    format!("{opening}\n    {},\n];", entries.join(",\n    "))
}

fn read(root: &Path, path: &str) -> Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("{path}: cannot be read"))
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    }
    std::fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))
}

const PAGE: &str = r#"//! # {title}
//! arXiv {arxiv} ({year})
//!
//! **Gives.** What a user gains.
//! **How.** The mathematics, with every symbol and the numbers of equations.
//! **Needs.** The pieces of the house that it stands on.
//! **Departs.** Where the code departs from the paper.
//! **Holds if.** The claim in words (`recipes/{family}/{slug}.toml`).

use pentimento_claims::{Budget, Claim, Context, Error, Method, Metrics, Recipe, settings};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The page in the catalogue.
pub const METHOD: Method = Method {
    slug: "{slug}",
    family: "{family}",
    page: include_str!("{module}.rs"),
    recipe: include_str!("../../../../recipes/{family}/{slug}.toml"),
    settings: settings::<Config>,
    model: None,
    claim,
};

/// The settings of the page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Learning rate.
    pub lr: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { lr: 1e-3 }
    }
}

/// What an arm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arm {
    /// What the method is compared with.
    Baseline,
    /// The method.
    Whole,
}

fn claim(recipe: &Recipe, budget: Budget) -> Result<Claim, Error> {
    let config: Config = recipe.config(budget)?;
    let arms =
        [("baseline", "what the method is compared with", Arm::Baseline), ("{slug}", "the whole method", Arm::Whole)];
    Ok(Claim::of(json!(config), Vec::new(), config, arms, run))
}

fn run(config: &Config, ctx: &mut Context, arm: Arm) -> Result<Metrics, Error> {
    Err(METHOD.refused(format!("arm {arm:?} at seed {} and rate {} is not written yet", ctx.seed, config.lr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_is_whole() {
        assert_eq!(METHOD.card().map(|c| c.arxiv).ok().as_deref(), Some("{arxiv}"));
    }
}
"#;

const RECIPE: &str = r#"method = "{slug}"

[small]
lr = 1e-3

[paper]
lr = 1e-3

# To be fixed and committed before the first full run.
[holds]
metric = "score"
arm = "{slug}"
against = "baseline"
direction = "higher"
margin = 1.0
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let lines = "use crate::geometry;\n\npub const FAMILIES: &[Family] = &[Family { name: \"geometry\", pages: GEOMETRY }];\n\n\
            const GEOMETRY: &[&Method] = &[&geometry::old::METHOD];\n\nfn f() {}\n";
        write(dir.path(), REGISTRY, lines).unwrap();
        write(dir.path(), "crates/methods/src/geometry/mod.rs", "//! Doc.\n\npub mod old;\n").unwrap();
        write(dir.path(), "crates/methods/src/lib.rs", "//! Doc.\n\npub mod geometry;\nmod registry;\n").unwrap();
        write(
            dir.path(),
            planned::TABLE,
            "slug\ttitle\tarxiv\tfamily\nmy-slug\tMy title\t2401.01234\tgeometry\nf\tF\t2402.00001\tfew-step\n",
        )
        .unwrap();
        dir
    }

    #[test]
    fn a_page_comes_with_recipe_module_and_registry_line() {
        let dir = tree();
        run(dir.path(), "geometry/my-slug", "2401.01234").unwrap();
        let page = read(dir.path(), "crates/methods/src/geometry/my_slug.rs").unwrap();
        assert!(page.starts_with("//! # My title\n//! arXiv 2401.01234 (2024)\n"), "{page}");
        assert!(
            !page.contains("{slug}") && read(dir.path(), "recipes/geometry/my-slug.toml").unwrap().contains("my-slug")
        );
        assert!(
            read(dir.path(), "crates/methods/src/geometry/mod.rs").unwrap().contains("pub mod my_slug;\npub mod old;")
        );
        let registry = read(dir.path(), REGISTRY).unwrap();
        assert!(registry.contains("    &geometry::old::METHOD,\n    &geometry::my_slug::METHOD,\n];"), "{registry}");
        assert!(
            run(dir.path(), "geometry/my-slug", "2401.01234").unwrap_err().to_string().contains("is there already")
        );
    }

    #[test]
    fn a_new_family_gets_its_list() {
        let dir = tree();
        run(dir.path(), "few-step/fast", "2402.00001").unwrap();
        let registry = read(dir.path(), REGISTRY).unwrap();
        assert!(registry.contains("Family { name: \"few-step\", pages: FEW_STEP }];"), "{registry}");
        assert!(registry.contains("const FEW_STEP: &[&Method] = &[\n    &few_step::fast::METHOD,\n];"), "{registry}");
        assert!(registry.starts_with("use crate::few_step;\nuse crate::geometry;"), "{registry}");
        assert!(
            read(dir.path(), "crates/methods/src/lib.rs").unwrap().contains("pub mod few_step;\npub mod geometry;")
        );
    }

    #[test]
    fn bad_names_are_refused() {
        let dir = tree();
        let slip = run(dir.path(), "geometrie/my-slug", "2401.01234").unwrap_err().to_string();
        assert!(slip.contains("there are few-step, geometry"), "{slip}");
        for (name, arxiv) in
            [("slug", "2401.01234"), ("geometry/B c", "2401.01234"), ("geometry/b", "24.1"), ("geometry/b", "x")]
        {
            assert!(run(dir.path(), name, arxiv).is_err(), "{name} {arxiv}");
        }
    }
}

//! The catalogue: every page is registered, has its recipe, its card and its checks, and stands alone; the README's table of
//! claims agrees with the evidence.

use super::source::{Fault, Source, words};
use crate::status;

/// The headings of a page's card, in their order.
const HEADINGS: [&str; 6] =
    ["//! # ", "//! **Gives.** ", "//! **How.** ", "//! **Needs.** ", "//! **Departs.** ", "//! **Holds if.** "];

/// A page: its family's folder, its module, its text.
fn pages(sources: &[Source]) -> impl Iterator<Item = (&str, &str, &Source)> {
    sources.iter().filter_map(|s| {
        let (folder, file) = s.path.strip_prefix("crates/methods/src/")?.split_once('/')?;
        let module = file.strip_suffix(".rs").filter(|m| *m != "mod")?;
        Some((folder, module, s))
    })
}

fn text_of<'a>(sources: &'a [Source], path: &str) -> &'a str {
    sources.iter().find(|s| s.path == path).map_or("", |s| &s.text)
}

/// A line in the registry and a recipe under the page's own name.
pub fn registered(sources: &[Source]) -> Vec<Fault> {
    let registry = text_of(sources, "crates/methods/src/registry.rs");
    let mut faults = Vec::new();
    for (folder, module, page) in pages(sources) {
        if !registry.contains(&format!("&{folder}::{module}::METHOD")) {
            faults.push(page.fault(0, "stands in no list of registry.rs; add its line"));
        }
        let (family, slug) = (folder.replace('_', "-"), module.replace('_', "-"));
        let recipe = format!("recipes/{family}/{slug}.toml");
        if !page.text.contains(&format!("slug: \"{slug}\"")) {
            faults.push(page.fault(0, format!("is not called \"{slug}\"; a page's file has the name of its slug")));
        }
        if text_of(sources, &recipe).is_empty() {
            faults.push(page.fault(0, format!("has no recipe {recipe}")));
        } else if !page.text.contains(&recipe) {
            faults.push(page.fault(0, format!("does not take its recipe {recipe}")));
        }
    }
    faults
}

/// The card in its fixed form, and exact checks at the end of the file.
pub fn carded(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (_, _, page) in pages(sources) {
        let mut from = 0;
        for heading in HEADINGS {
            match page.text[from..].find(heading) {
                Some(at) => from += at + heading.len(),
                None => faults.push(page.fault(0, format!("its card has no `{}` in its place", heading.trim()))),
            }
        }
        if !page.text.contains("#[cfg(test)]") || !page.text.contains("#[test]") {
            faults.push(page.fault(0, "has no exact check"));
        }
    }
    faults
}

/// A page never imports another page: what two need has a home below.
pub fn alone(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (_, _, page) in pages(sources) {
        for at in words(&page.code, "crate").chain(words(&page.code, "pentimento_methods")) {
            faults.push(page.fault_at(at, "reaches into the catalogue; move what two pages need to its home"));
        }
        for at in words(&page.code, "super") {
            if !page.code[at..].starts_with("super::*") {
                faults.push(page.fault_at(at, "reaches into its family; move what two pages need to its home"));
            }
        }
    }
    faults
}

/// The README's table of claims is what `cargo xtask readme` makes of the evidence.
pub fn claims_agree(sources: &[Source]) -> Vec<Fault> {
    let evidence: Vec<_> =
        sources.iter().filter(|s| status::is_evidence(&s.path)).map(|s| (s.path.as_str(), s.text.as_str())).collect();
    let table = status::table(&evidence);
    let readme = sources.iter().filter(|s| s.path == "README.md");
    let stale = |s: &&Source| status::renewed(&s.text, &table).is_some_and(|new| new != s.text);
    readme
        .filter(stale)
        .map(|s| s.fault(0, "its table of claims is not that of evidence/; run `cargo xtask readme`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "//! # T\n//! arXiv 2401.01234 (2024)\n//!\n//! **Gives.** a\n//! **How.** b\n//! **Needs.** c\n//! **Departs.** d\n\
        //! **Holds if.** e (`recipes/few-step/my-slug.toml`)\n\nconst M: M = M { slug: \"my-slug\" };\n#[cfg(test)]\nmod tests {\n    use super::*;\n    #[test]\n    fn f() {}\n}\n";

    fn tree(page: &str) -> Vec<Source> {
        vec![
            Source::new("crates/methods/src/few_step/my_slug.rs", page),
            Source::new("crates/methods/src/few_step/mod.rs", "pub mod my_slug;\n"),
            Source::new("crates/methods/src/registry.rs", "const X: &[&Method] = &[&few_step::my_slug::METHOD];\n"),
            Source::new("recipes/few-step/my-slug.toml", "method = \"my-slug\"\n"),
        ]
    }

    #[test]
    fn a_whole_page_passes() {
        let sources = tree(PAGE);
        assert_eq!((registered(&sources), carded(&sources), alone(&sources)), (vec![], vec![], vec![]));
    }

    #[test]
    fn what_a_page_lacks_is_found() {
        let mut sources = tree(PAGE);
        sources.truncate(2);
        assert_eq!(registered(&sources).len(), 2, "neither registry line nor recipe");
        assert_eq!(registered(&tree(&PAGE.replace("slug: \"my-slug\"", "slug: \"other\""))).len(), 1);
        assert_eq!(carded(&tree(&PAGE.replace("**Needs.**", "Needs"))).len(), 1);
        assert_eq!(carded(&tree(&PAGE.replace("#[test]", ""))).len(), 1);
        let importing = PAGE.replace("const M", "use crate::geometry::other;\nconst M");
        assert_eq!(alone(&tree(&importing)).len(), 1);
        assert_eq!(alone(&tree(&PAGE.replace("const M", "use super::other::f;\nconst M"))).len(), 1);
    }

    #[test]
    fn a_table_that_was_typed_is_found() {
        let [begin, end] = status::MARKS;
        let right = status::renewed(&format!("{begin}\n{end}\n"), &status::table(&[])).unwrap();
        assert_eq!(claims_agree(&[Source::new("README.md", &right)]), []);
        let typed = right.replace("No claim", "Every claim");
        assert_eq!(claims_agree(&[Source::new("README.md", &typed)]).len(), 1);
        assert_eq!(claims_agree(&[Source::new("README.md", &right), Source::new("evidence/a.json", "{}")]).len(), 1);
    }
}

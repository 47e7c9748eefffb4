//! A page of the catalogue, and the claim it makes.

use crate::{Budget, Context, Error, Opened, Recipe, Setting, Trainer};
use pentimento_core::exact::unit_rows;
use pentimento_io::png_out;
use pentimento_train::bytes;
use serde::Serialize;
use serde_json::{Value, json};
use std::ops::Index;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// A published method: all that the catalogue knows of it. No tensor is made before its claim runs.
pub struct Method {
    /// Its name in commands, recipes and evidence.
    pub slug: &'static str,
    /// The part of the catalogue in which it stands.
    pub family: &'static str,
    /// Text of the page, whose header is the card.
    pub page: &'static str,
    /// Text of the recipe.
    pub recipe: &'static str,
    /// The configuration's keys and defaults.
    pub settings: fn() -> Vec<Setting>,
    /// Its model, to train and use outside the claim, where there is a single one.
    pub model: Option<Trainer>,
    /// The arms under a recipe and a budget.
    pub claim: fn(&Recipe, Budget) -> Result<Claim, Error>,
}

/// What the header of a page says, in STYLE's fixed form.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Card {
    /// Title of the page.
    pub title: String,
    /// Number of the paper.
    pub arxiv: String,
    /// Its year.
    pub year: String,
    /// What a user gains.
    pub gives: String,
    /// The mathematics.
    pub how: String,
    /// Pieces of the house that the page stands on.
    pub needs: String,
    /// Where the code departs from the paper.
    pub departs: String,
    /// The claim in words.
    pub holds: String,
}

/// A claim ready to run: nothing below re-reads a recipe.
pub struct Claim {
    /// The configuration with its defaults, which together with the data decides every number.
    pub config: Value,
    /// Content of the data, a line per set.
    pub data: Vec<String>,
    /// The arms, the method's own among them.
    pub arms: Vec<Arm>,
}

impl Claim {
    /// Arms that share what is prepared, the configuration and its data, and differ in one value each.
    pub fn of<T: 'static, V: Clone + 'static, const N: usize>(
        config: Value,
        data: Vec<String>,
        shared: T,
        arms: [(&'static str, &'static str, V); N],
        run: impl Fn(&T, &mut Context, V) -> Result<Metrics, Error> + 'static,
    ) -> Self {
        let together = Arc::new((shared, run));
        let arm = |(name, what, value): (_, _, V)| {
            let together = together.clone();
            Arm::new(name, what, move |ctx| (together.1)(&together.0, ctx, value.clone()))
        };
        Self { config, data, arms: arms.map(arm).into() }
    }

    /// Arms over a configuration and the data that it names, with nothing else to prepare.
    pub fn on<C: Serialize + 'static, V: Clone + 'static, const N: usize>(
        config: C,
        sets: Opened,
        arms: [(&'static str, &'static str, V); N],
        run: impl Fn(&mut Context, &C, &Opened, V) -> Result<Metrics, Error> + 'static,
    ) -> Self {
        let (described, data) = (json!(config), sets.fingerprints());
        Self::of(described, data, (config, sets), arms, move |(config, sets), ctx, arm| run(ctx, config, sets, arm))
    }
}

/// What an arm does at one seed.
pub type Run = Box<dyn Fn(&mut Context) -> Result<Metrics, Error>>;

/// One side of the comparison.
pub struct Arm {
    /// Its name in the recipe.
    pub name: &'static str,
    /// What it is, in one line.
    pub what: &'static str,
    /// Trains, or not, and measures.
    pub run: Run,
}

impl Arm {
    /// An arm from its closure.
    pub fn new(
        name: &'static str,
        what: &'static str,
        run: impl Fn(&mut Context) -> Result<Metrics, Error> + 'static,
    ) -> Self {
        Self { name, what, run: Box::new(run) }
    }
}

/// What an arm measured at one seed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Named numbers, in order.
    pub values: Vec<(String, f64)>,
    /// Pictures worth looking at.
    pub pictures: Vec<Picture>,
}

/// A picture of the evidence page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// The line under it.
    pub caption: String,
    /// The encoded picture.
    pub png: Vec<u8>,
}

impl Picture {
    /// Pictures in a row of those that show a method's work.
    pub const COLUMNS: usize = 12;

    /// Rows of pictures of one size, each row `[N, C, H, W]` in [-1, 1].
    ///
    /// # Errors
    /// What the encoder refuses.
    pub fn rows(caption: &str, rows: &[Tensor]) -> Result<Self, Error> {
        let columns = rows.iter().map(|r| r.size()[0]).max().and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
        let all: Vec<_> = rows.iter().flat_map(bytes).collect();
        Ok(Self { caption: caption.into(), png: png_out::encode(&png_out::grid(&all, columns), &[])? })
    }

    /// Twelve pictures far apart in `x` `[N, C, H, W]`, and under each the four that are nearest to it by the cosine of `features` `[N, D]`.
    ///
    /// # Errors
    /// As [`Picture::rows`].
    pub fn nearest(caption: &str, x: &Tensor, features: &Tensor) -> Result<Self, Error> {
        let rows: Vec<_> =
            nearest(features, Self::COLUMNS as i64, 4).iter().map(|row| x.index_select(0, row)).collect();
        Self::rows(caption, &rows)
    }
}

/// Rows evenly apart, at most `columns`; then the nearest to each by cosine, the second nearest and so on to the `k`th.
fn nearest(features: &Tensor, columns: i64, k: i64) -> Vec<Tensor> {
    let (n, unit) = (features.size()[0], unit_rows(&features.flatten(1, -1)));
    let columns = columns.min(n).max(1);
    let asked = Tensor::arange(columns, (Kind::Int64, unit.device())) * n.div_euclid(columns);
    // A copy of a picture is a neighbour, the picture itself is not.
    let cosine = unit.index_select(0, &asked).matmul(&unit.tr());
    let cosine = cosine.scatter_value(1, &asked.unsqueeze(1), f64::NEG_INFINITY);
    let found = cosine.topk(k.min(n - 1), 1, true, true).1;
    std::iter::once(asked).chain(found.unbind(1)).collect()
}

impl Metrics {
    /// Numbers without pictures.
    pub fn new<const N: usize>(values: [(&str, f64); N]) -> Self {
        Self { values: values.into_iter().map(|(k, v)| (k.into(), v)).collect(), pictures: Vec::new() }
    }

    /// One number more.
    pub fn put(&mut self, name: impl Into<String>, value: f64) {
        self.values.push((name.into(), value));
    }

    /// The same with pictures, where somebody will look at the run.
    ///
    /// # Errors
    /// What stops `pictures`.
    pub fn showing(
        mut self,
        ctx: &Context,
        pictures: impl FnOnce() -> Result<Vec<Picture>, Error>,
    ) -> Result<Self, Error> {
        if ctx.shown() {
            self.pictures = pictures()?;
        }
        Ok(self)
    }

    /// The number of a name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(k, _)| k == name).map(|(_, v)| *v)
    }
}

impl Index<&str> for Metrics {
    type Output = f64;

    /// The number of a name that is known to be there; see [`Metrics::get`].
    fn index(&self, name: &str) -> &f64 {
        let found = self.values.iter().find(|(k, _)| k == name);
        found.map_or_else(|| panic!("no {name} among {:?}", self.values), |(_, v)| v)
    }
}

impl Method {
    /// A setting that cannot be, as an error that names the recipe.
    pub fn refused(&self, why: impl Into<String>) -> Error {
        Error::Recipe { slug: self.slug.into(), why: why.into() }
    }

    /// The header of the page.
    ///
    /// # Errors
    /// The first heading that is missing or out of order.
    pub fn card(&self) -> Result<Card, Error> {
        Card::parse(self.page).map_err(|why| self.refused(format!("its page {why}")))
    }

    /// What the recipe says of a claim that did not hold. Evidence keeps what it said when the claim ran; it may be found out later.
    pub fn diagnosis(&self) -> Option<String> {
        Recipe::of(self).ok()?.diagnosis
    }

    /// The header of the page as text, without the comment marks.
    pub fn header(&self) -> String {
        header(self.page)
    }
}

fn header(page: &str) -> String {
    let lines = page.lines().map_while(|l| l.strip_prefix("//!")).map(|l| l.strip_prefix(' ').unwrap_or(l));
    lines.collect::<Vec<_>>().join("\n")
}

/// The headings of a page, in their order.
pub const HEADINGS: [&str; 5] = ["Gives.", "How.", "Needs.", "Departs.", "Holds if."];

impl Card {
    /// Reads a card off a page.
    ///
    /// # Errors
    /// What is missing, to be put behind "its page".
    pub fn parse(page: &str) -> Result<Self, String> {
        let text = header(page);
        let mut lines = text.lines();
        let title = lines.next().and_then(|l| l.strip_prefix("# ")).ok_or("does not begin with a title")?;
        let paper =
            lines.next().and_then(|l| l.strip_prefix("arXiv ")).ok_or("names no arXiv number under its title")?;
        let (arxiv, rest) = paper.split_once(" (").ok_or("gives no year behind the arXiv number")?;
        let (year, _) = rest.split_once(')').ok_or("gives no year behind the arXiv number")?;
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        for heading in HEADINGS {
            let mark = format!("**{heading}**");
            let (before, after) = rest.split_once(&mark).ok_or(format!("has no **{heading}** in its place"))?;
            parts.push(before.trim().to_owned());
            rest = after;
        }
        parts.push(rest.trim().to_owned());
        let mut parts = parts.into_iter().skip(1);
        let mut next = || parts.next().unwrap_or_default();
        Ok(Self {
            title: title.into(),
            arxiv: arxiv.into(),
            year: year.into(),
            gives: next(),
            how: next(),
            needs: next(),
            departs: next(),
            holds: next(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "//! # A title\n//! arXiv 2209.15430 (2022) - reference: a/b\n//!\n//! **Gives.** Much.\n\
        //! **How.** Thus:\n//!     x = y\n//! **Needs.** `a`.\n//! **Departs.** Nowhere.\n//! **Holds if.** It holds.\n\nuse x;\n";

    #[test]
    fn a_card_is_read_off_the_page() {
        let card = Card::parse(PAGE).unwrap();
        assert_eq!((card.title.as_str(), card.arxiv.as_str(), card.year.as_str()), ("A title", "2209.15430", "2022"));
        assert_eq!((card.gives.as_str(), card.how.as_str()), ("Much.", "Thus:\n    x = y"));
        assert_eq!((card.departs.as_str(), card.holds.as_str()), ("Nowhere.", "It holds."));
    }

    /// Directions a tenth of a radian apart, each twice, at lengths that must not matter.
    #[test]
    fn the_nearest_is_the_copy_and_the_row_itself_is_not_among_them() {
        let angle = Tensor::from_slice(&[0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3_f64]);
        let length = Tensor::from_slice(&[1.0, 5.0, 2.0, 1.0, 7.0, 1.0, 1.0, 3.0_f64]).unsqueeze(1);
        let features = Tensor::stack(&[angle.cos(), angle.sin()], 1) * length;
        let rows: Vec<Vec<i64>> = nearest(&features, 4, 3).iter().map(|r| r.try_into().unwrap()).collect();
        assert_eq!(rows[..2], [vec![0, 2, 4, 6], vec![1, 3, 5, 7]]);
        let third = |i: usize| [rows[2][i], rows[3][i]];
        assert!([[2, 3], [3, 2]].contains(&third(0)) && [[4, 5], [5, 4]].contains(&third(3)), "{rows:?}");
        assert_eq!(nearest(&features.narrow(0, 0, 2), 12, 4).len(), 2, "the asked and the one other");
    }

    #[test]
    fn a_missing_or_misplaced_heading_is_named() {
        let without = PAGE.replace("**Needs.** ", "");
        assert_eq!(Card::parse(&without).unwrap_err(), "has no **Needs.** in its place");
        let swapped = PAGE.replace("Gives", "Q").replace("How", "Gives").replace("Q", "How");
        assert!(Card::parse(&swapped).is_err());
        assert!(Card::parse("use x;").unwrap_err().contains("title"));
    }
}

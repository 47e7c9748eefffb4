//! What a page's recipe says: two budgets over one untyped table, and what must hold.

use crate::verdict::{Direction, Kind, Rule, Scale};
use crate::{Error, Method};
use pentimento_core::nearest;
use pentimento_train::apply;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::str::FromStr;

/// For which machine a claim is run.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Two processor cores, minutes: `[small]`.
    Small,
    /// The sizes of the paper: `[paper]`.
    Paper,
}

impl Budget {
    /// As it is typed, and the name of its table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Paper => "paper",
        }
    }
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Small, Self::Paper].into_iter().find(|b| b.name() == s).ok_or_else(|| "write small or paper".into())
    }
}

/// A recipe of the catalogue. `[data]` and the budget's table together are the page's own configuration.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Slug of the method.
    pub method: String,
    /// What is learned from, at either budget.
    #[serde(default)]
    pub data: toml::Table,
    /// Settings for two cores.
    pub small: toml::Table,
    /// Settings of the paper.
    pub paper: toml::Table,
    /// The primary predicate: the verdict is on this alone.
    pub holds: Predicate,
    /// Predicates that are reported beside it and decide nothing.
    #[serde(default)]
    pub also: Vec<Predicate>,
    /// Where the claim does not hold: our implementation, the budget, or the effect?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<String>,
}

/// One comparison of two arms.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    /// What is measured.
    pub metric: String,
    /// The arm that is claimed to be better.
    pub arm: String,
    /// The arm it is compared with.
    pub against: String,
    /// What is measured of the other arm; `metric` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_metric: Option<String>,
    /// Which way is better.
    pub direction: Direction,
    /// m, in the unit of the metric; a factor above 1 with `scale = "ratio"`.
    pub margin: f64,
    /// Superiority or equivalence.
    #[serde(default)]
    pub kind: Kind,
    /// Difference or ratio.
    #[serde(default)]
    pub scale: Scale,
}

impl Predicate {
    /// The arithmetic behind it.
    pub fn rule(&self) -> Rule {
        Rule { kind: self.kind, direction: self.direction, scale: self.scale, margin: self.margin }
    }

    /// The metric of the other arm.
    pub fn other_metric(&self) -> &str {
        self.against_metric.as_deref().unwrap_or(&self.metric)
    }

    /// The predicate as a sentence.
    pub fn sentence(&self) -> String {
        let other = match &self.against_metric {
            Some(metric) => format!("{metric} of {}", self.against),
            None => self.against.clone(),
        };
        let (metric, arm, m) = (&self.metric, &self.arm, self.margin);
        let way = match self.direction {
            Direction::Higher => "higher",
            Direction::Lower => "lower",
        };
        match (self.kind, self.scale) {
            (Kind::Superiority, Scale::Difference) => format!("{metric} of {arm} is {way} than {other} by {m}"),
            (Kind::Superiority, Scale::Ratio) => format!("{metric} of {arm} is {way} than {other} by a factor of {m}"),
            (Kind::NoWorse, Scale::Difference) => format!("{metric} of {arm} is at most {m} worse than {other}"),
            (Kind::NoWorse, Scale::Ratio) => format!("{metric} of {arm} is at most a factor of {m} worse than {other}"),
            (Kind::Equivalence, Scale::Difference) => format!("{metric} of {arm} is within {m} of {other}"),
            (Kind::Equivalence, Scale::Ratio) => format!("{metric} of {arm} is within a factor of {m} of {other}"),
        }
    }

    fn check(&self) -> Result<(), String> {
        let floor = if self.scale == Scale::Ratio { 1.0 } else { 0.0 };
        if self.margin.is_finite() && self.margin > floor {
            return Ok(());
        }
        Err(format!("margin = {} of {}; must be above {floor}", self.margin, self.metric))
    }
}

impl Recipe {
    /// The recipe of a page.
    ///
    /// # Errors
    /// One sentence with line and column, or the margin that makes no sense.
    pub fn of(method: &Method) -> Result<Self, Error> {
        let bad = |why: String| method.refused(why);
        let recipe: Self = toml::from_str(method.recipe).map_err(|e| bad(e.to_string().trim().replace('\n', " ")))?;
        if recipe.method != method.slug {
            return Err(bad(format!("method = \"{}\"; the page is called {}", recipe.method, method.slug)));
        }
        recipe.also.iter().chain([&recipe.holds]).try_for_each(Predicate::check).map_err(bad)?;
        Ok(recipe)
    }

    /// The page's configuration at a budget, with its defaults filled in.
    ///
    /// # Errors
    /// A key that the page does not know, with the nearest one, or a value of another type.
    pub fn config<C: DeserializeOwned>(&self, budget: Budget) -> Result<C, Error> {
        typed(self.settings(budget), &self.method, &format!("[{}]", budget.name()))
    }

    /// The recipe with `key=value` settings of a budget in place of its own.
    pub(crate) fn changed(mut self, method: &Method, budget: Budget, sets: &[String]) -> Result<Self, Error> {
        if sets.is_empty() {
            return Ok(self);
        }
        let mut table = self.settings(budget);
        for set in sets {
            apply(&mut table, set)?;
        }
        check_numbers(method.slug, &table, &(method.settings)())?;
        self.data = toml::Table::new();
        match budget {
            Budget::Small => self.small = table,
            Budget::Paper => self.paper = table,
        }
        Ok(self)
    }

    /// `[data]` and the table of a budget: the page's settings.
    pub(crate) fn settings(&self, budget: Budget) -> toml::Table {
        let mut table = match budget {
            Budget::Small => self.small.clone(),
            Budget::Paper => self.paper.clone(),
        };
        if !self.data.is_empty() {
            table.insert("data".into(), toml::Value::Table(self.data.clone()));
        }
        table
    }
}

/// A table of a method as its type.
///
/// # Errors
/// A key that is not known, with the nearest one, or a value of another type.
pub(crate) fn typed<C: DeserializeOwned>(table: toml::Table, slug: &str, place: &str) -> Result<C, Error> {
    table.try_into().map_err(|e: toml::de::Error| {
        let message = e.message().trim().replace('\n', " ");
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let hint = match quoted.split_first() {
            Some((got, known)) if message.starts_with("unknown") => nearest(got, known),
            _ => None,
        };
        let hint = hint.map_or(String::new(), |h| format!("; did you mean `{h}`?"));
        Error::Recipe { slug: slug.into(), why: format!("{place}: {message}{hint}") }
    })
}

/// Refuses numbers that no page can work with: those of a sign that its default has not, and sizes beyond any use.
pub(crate) fn check_numbers(slug: &str, table: &toml::Table, settings: &[Setting]) -> Result<(), Error> {
    let mut given = Vec::new();
    leaves("", &serde_json::json!(table), &mut given);
    for Setting { key, default: value, .. } in given {
        let Some(known) = settings.iter().find(|s| s.key == key) else { continue };
        let counts = ["images", "items", "passes"].iter().any(|end| key.ends_with(end));
        if let Err(want) = in_range(&value, &known.default, if counts { 1e12 } else { 65_536.0 }) {
            let got = if value.is_null() { "nan or inf".into() } else { value.to_string() };
            return Err(Error::Recipe { slug: slug.into(), why: format!("{key} = {got}; {want}") });
        }
    }
    Ok(())
}

fn in_range(value: &Value, default: &Value, most: f64) -> Result<(), String> {
    match (value, default) {
        (Value::Array(_), Value::Array(defaults)) if defaults.is_empty() => Ok(()),
        (Value::Array(values), Value::Array(_)) if values.is_empty() => Err("must not be empty".into()),
        (Value::Array(values), Value::Array(defaults)) => {
            // The smallest of the defaults says of which sign they are.
            let least = defaults.iter().min_by(|a, b| size(a).total_cmp(&size(b)));
            values.iter().try_for_each(|v| in_range(v, least.unwrap_or(v), most))
        }
        (Value::Number(n), Value::Number(known)) => {
            let (n, known, whole) = (n.as_f64().unwrap_or(f64::NAN), known.as_f64().unwrap_or(0.0), known.is_u64());
            let floor = if whole && known >= 1.0 { 1.0 } else { 0.0 };
            if known >= 0.0 && (n.is_nan() || n < floor) {
                return Err(format!("must be at least {floor}"));
            }
            if whole && n > most {
                return Err(format!("must be at most {most}"));
            }
            Ok(())
        }
        // TOML's nan and inf have no number in JSON.
        (Value::Null, Value::Number(_)) => Err("must be finite".into()),
        _ => Ok(()),
    }
}

fn size(value: &Value) -> f64 {
    match value {
        Value::Array(all) => all.iter().map(size).fold(f64::INFINITY, f64::min),
        other => other.as_f64().unwrap_or(f64::INFINITY),
    }
}

/// One setting of a page.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Setting {
    /// Its key, with dots for tables.
    pub key: String,
    /// `bool`, `integer`, `number`, `text` or `list`.
    pub kind: &'static str,
    /// The value where a recipe is silent.
    pub default: Value,
}

/// The settings of a configuration, read off its default.
pub fn settings<C: Default + Serialize>() -> Vec<Setting> {
    let mut list = Vec::new();
    leaves("", &serde_json::json!(C::default()), &mut list);
    list
}

fn leaves(prefix: &str, value: &Value, list: &mut Vec<Setting>) {
    if let Value::Object(map) = value {
        for (key, inner) in map {
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            leaves(&key, inner, list);
        }
        return;
    }
    let kind = match value {
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::Array(_) => "list",
        _ => "text",
    };
    list.push(Setting { key: prefix.into(), kind, default: value.clone() });
}

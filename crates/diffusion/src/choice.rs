use pentimento_core::{Error, nearest};

/// A closed set of names, each with numbers in brackets behind it: `vp_linear(0.1, 20)`. Numbers left out take the
/// values listed here.
pub(crate) struct Choices {
    pub what: &'static str,
    pub list: &'static [(&'static str, &'static [f64])],
}

impl Choices {
    /// Place in the list and numbers of a choice as typed.
    pub fn find(&self, text: &str) -> Result<(usize, Vec<f64>), Error> {
        let typed = text.trim();
        let (name, rest) = typed.split_once('(').map_or((typed, None), |(n, r)| (n.trim(), Some(r)));
        let found = self.list.iter().position(|(n, _)| *n == name).ok_or_else(|| self.unknown(text))?;
        let mut numbers = self.list[found].1.to_vec();
        if let Some(rest) = rest {
            let inner = rest.strip_suffix(')').ok_or_else(|| self.unknown(text))?;
            let given: Vec<&str> = inner.split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
            if given.len() > numbers.len() {
                return Err(self.unknown(text));
            }
            for (slot, typed) in numbers.iter_mut().zip(given) {
                *slot = typed.parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(|| self.unknown(text))?;
            }
        }
        Ok((found, numbers))
    }

    /// The text that [`Choices::find`] reads back.
    pub fn show(&self, place: usize, numbers: &[f64]) -> String {
        written(self.list[place].0, numbers)
    }

    fn unknown(&self, got: &str) -> Error {
        let names: Vec<String> = self.list.iter().map(|(n, numbers)| written(n, numbers)).collect();
        let plain: Vec<&str> = self.list.iter().map(|(n, _)| *n).collect();
        let typed = got.split('(').next().unwrap_or(got).trim();
        // A known name with numbers that cannot be read needs no advice on the name.
        let near = nearest(typed, &plain).filter(|n| *n != typed);
        let hint = near.map_or(String::new(), |n| format!("; did you mean {n}?"));
        Error::UnknownChoice { what: self.what, got: got.into(), choices: names.join(", "), hint }
    }
}

fn written(name: &str, numbers: &[f64]) -> String {
    if numbers.is_empty() {
        return name.into();
    }
    let list: Vec<String> = numbers.iter().map(f64::to_string).collect();
    format!("{name}({})", list.join(", "))
}

/// `FromStr`, `Display` and the conversions serde uses, from `CHOICES`, `build(place, &numbers)` and `parts()`.
macro_rules! by_name {
    ($type:ty) => {
        impl std::str::FromStr for $type {
            type Err = pentimento_core::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let (place, numbers) = Self::CHOICES.find(text)?;
                Self::build(place, &numbers)
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let (place, numbers) = self.parts();
                f.write_str(&Self::CHOICES.show(place, &numbers))
            }
        }
        impl TryFrom<String> for $type {
            type Error = pentimento_core::Error;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(choice: $type) -> String {
                choice.to_string()
            }
        }
    };
}
pub(crate) use by_name;

/// A number of a choice, checked.
pub(crate) fn checked(what: &str, got: f64, ok: bool, want: &str) -> Result<f64, Error> {
    if ok { Ok(got) } else { Err(Error::OutOfRange { what: what.into(), got: got.to_string(), want: want.into() }) }
}

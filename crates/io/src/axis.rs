//! Axes of charts: range, ticks at round numbers, and how numbers are printed.

/// Spacing of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scale {
    /// Equal differences are equally far apart.
    #[default]
    Linear,
    /// Equal ratios are equally far apart; values up to zero are left out.
    Log,
}

/// A range of values and the pixels it is drawn on.
pub(crate) struct Axis {
    scale: Scale,
    /// In the axis' own unit: log10 of the value on a log axis.
    low: f64,
    high: f64,
    /// Between ticks of a linear axis.
    step: f64,
    start: f64,
    end: f64,
}

/// A short form of a number: four significant digits, thousands as `k`, `M`, `G`.
pub fn number(x: f64) -> String {
    let size = x.abs();
    if !x.is_finite() {
        return x.to_string();
    }
    let (scaled, suffix) = match size {
        _ if size >= 999.95e9 => return trimmed(format!("{x:.3e}")),
        _ if size >= 999.95e6 => (x / 1e9, "G"),
        _ if size >= 999.95e3 => (x / 1e6, "M"),
        _ if size >= 9999.5 => (x / 1e3, "k"),
        _ if size == 0.0 => return "0".to_owned(),
        _ if size < 1e-3 => return trimmed(format!("{x:.3e}")),
        _ => (x, ""),
    };
    let places = match scaled.abs() {
        s if s >= 999.95 => 0,
        s if s >= 99.995 => 1,
        s if s >= 9.9995 => 2,
        s if s >= 0.99995 => 3,
        _ => 4,
    };
    trimmed(format!("{scaled:.places$}")) + suffix
}

/// Without zeros at the end of the digits.
fn trimmed(text: String) -> String {
    let (digits, exponent) = text.split_once('e').map_or((text.as_str(), String::new()), |(d, e)| (d, format!("e{e}")));
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    let digits = if digits == "-0" { "0" } else { digits };
    format!("{digits}{exponent}")
}

impl Axis {
    /// An axis that shows all of these values that it can, with round ends.
    pub(crate) fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let values = values.filter(|v| v.is_finite() && (scale == Scale::Linear || *v > 0.0));
        let values = values.map(|v| if scale == Scale::Log { v.log10() } else { v });
        let (mut low, mut high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // Ends that leave no room to tell values apart are widened, by a share of what is there.
        if high - low <= 1e-12 * high.abs().max(low.abs()) {
            let room = if scale == Scale::Log { 0.5 } else { (0.1 * high.abs()).max(1e-12) };
            (low, high) = (low - room, high + room);
        }
        let step = nice(high / 5.0 - low / 5.0);
        if scale == Scale::Linear {
            (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        } else {
            let pad = 0.03 * (high - low);
            (low, high) = (low - pad, high + pad);
        }
        Self { scale, low, high, step, start: 0.0, end: 1.0 }
    }

    /// The same axis without room beyond the values, for a quantity that simply goes on, such as images seen.
    pub(crate) fn tight(mut self, values: impl Iterator<Item = f64>) -> Self {
        let finite = values.filter(|v| v.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if self.scale == Scale::Linear && high - low > 1e-9 * (self.high - self.low) {
            (self.low, self.high) = (low, high);
        }
        self
    }

    pub(crate) fn place(&mut self, start: f64, end: f64) {
        (self.start, self.end) = (start, end);
    }

    /// Where a value is drawn, if the axis can show it.
    pub(crate) fn at(&self, value: f64) -> Option<f64> {
        let v = if self.scale == Scale::Log { value.log10() } else { value };
        let share = v / (self.high - self.low) - self.low / (self.high - self.low);
        share.is_finite().then(|| self.start + share.clamp(-0.01, 1.01) * (self.end - self.start))
    }

    /// Positions and labels.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let values: Vec<f64> = match self.scale {
            Scale::Linear => {
                let first = (self.low / self.step - 1e-9).ceil();
                let values = (0..12).map(|i| (first + f64::from(i)) * self.step);
                values.filter(|v| *v <= self.high + 1e-9 * self.step).collect()
            }
            Scale::Log => self.log_ticks(),
        };
        values.into_iter().filter_map(|v| Some((self.at(v)?, number(v)))).collect()
    }

    fn log_ticks(&self) -> Vec<f64> {
        let decades = self.high - self.low;
        let every = (decades / 7.0).ceil().max(1.0);
        let marks: &[f64] = match decades {
            d if d < 0.5 => &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
            d if d < 1.2 => &[1.0, 2.0, 3.0, 5.0, 7.0],
            d if d < 2.5 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let mut ticks = Vec::new();
        let mut decade = (self.low / every).floor() * every;
        while decade <= self.high {
            let within = marks.iter().map(|m| (decade + m.log10(), m));
            ticks.extend(
                within.filter(|(l, _)| (self.low..=self.high).contains(l)).map(|(_, m)| m * 10_f64.powf(decade)),
            );
            decade += every;
        }
        ticks
    }
}

/// The step of 1, 2 or 5 times a power of ten that is next to this one.
fn nice(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let power = if power > 0.0 && power.is_finite() { power } else { f64::MIN_POSITIVE };
    let digit = match step / power {
        d if d <= 1.000_001 => 1.0,
        d if d <= 2.000_001 => 2.0,
        d if d <= 5.000_001 => 5.0,
        _ => 10.0,
    };
    digit * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        let mut axis = Axis::over(scale, values.iter().copied());
        axis.place(0.0, 100.0);
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (-0.25, "-0.25"),
            (0.123_456, "0.1235"),
            (0.999_99, "1"),
            (97.8, "97.8"),
            (1234.0, "1234"),
            (10_000.0, "10k"),
            (180_000.0, "180k"),
            (999_999.0, "1M"),
            (2_500_000.0, "2.5M"),
            (3e9, "3G"),
            (1e12, "1e12"),
            (1e-4, "1e-4"),
            (-1.5e-7, "-1.5e-7"),
        ];
        for (x, text) in cases {
            assert_eq!(number(x), text);
        }
        assert_eq!(number(f64::NAN), "NaN");
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        assert_eq!(labels(Scale::Linear, &[0.0, 97.0]), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(Scale::Linear, &[-0.3, 0.62]), ["-0.4", "-0.2", "0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(labels(Scale::Linear, &[0.0, 160_000.0]), ["0", "50k", "100k", "150k", "200k"]);
        assert_eq!(labels(Scale::Log, &[1e-3, 10.0]), ["0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(labels(Scale::Log, &[0.1, 1.0]), ["0.1", "0.2", "0.3", "0.5", "0.7", "1"]);
        assert_eq!(labels(Scale::Log, &[0.1, 10.0]), ["0.1", "0.2", "0.5", "1", "2", "5", "10"]);
        assert!(labels(Scale::Log, &[0.30, 0.40]).len() >= 2);
        assert!(labels(Scale::Linear, &[]).len() >= 2);
    }

    #[test]
    fn a_tight_axis_ends_where_the_values_end() {
        let values = || [400.0, 159_600.0].into_iter();
        let mut axis = Axis::over(Scale::Linear, values()).tight(values());
        axis.place(0.0, 100.0);
        assert_eq!(axis.ticks().into_iter().map(|(_, label)| label).collect::<Vec<_>>(), ["50k", "100k", "150k"]);
        assert!((axis.at(400.0).unwrap(), axis.at(159_600.0).unwrap()) == (0.0, 100.0));
        assert!(Axis::over(Scale::Linear, [3.0].into_iter()).tight([3.0].into_iter()).at(3.0).is_some());
    }

    #[test]
    fn positions_follow_the_scale() {
        let mut axis = Axis::over(Scale::Linear, [0.0, 10.0].into_iter());
        axis.place(0.0, 100.0);
        assert_eq!(
            (axis.at(0.0), axis.at(5.0), axis.at(10.0), axis.at(f64::NAN)),
            (Some(0.0), Some(50.0), Some(100.0), None)
        );
        let mut log = Axis::over(Scale::Log, [1.0, 100.0].into_iter());
        log.place(0.0, 106.0);
        assert!((log.at(10.0).unwrap() - 53.0).abs() < 1e-9);
        assert_eq!((log.at(0.0), log.at(-1.0)), (None, None));
    }
}

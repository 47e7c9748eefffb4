//! The other charts of a report: bars with intervals, heat maps with numbers, sweeps with two axes, scatter.

use std::fmt::Write;

use crate::axis::{Axis, Scale, number};
use crate::chart::{Frame, Mark, Series, Svg, WIDTH, color, dash, escape, legend, pixels};

/// One bar with its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// Lower and upper end of the interval, where there is one.
    pub interval: Option<(f64, f64)>,
}

/// Horizontal bars from zero, each with its number and interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// What it shows.
    pub title: String,
    /// Name and unit of the values.
    pub label: String,
    /// The bars, from top to bottom.
    pub bars: Vec<Bar>,
}

fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

impl Bar {
    /// The number and its interval.
    fn said(&self) -> String {
        let interval = self.interval.map(|(low, high)| format!("  [{}, {}]", number(low), number(high)));
        number(self.value) + &interval.unwrap_or_default()
    }
}

impl Bars {
    /// Draws the chart.
    pub fn svg(&self) -> Svg {
        /// Of a figure, in pixels, at the size of the page's numbers.
        const GLYPH: f64 = 7.5;
        let said: Vec<String> = self.bars.iter().map(Bar::said).collect();
        let longest = said.iter().map(String::len).max().unwrap_or(0);
        let margin = (14.0 + GLYPH * longest as f64).max(150.0);
        let (left, right, top, row) = (190.0, f64::from(WIDTH) - margin, 34.0, 30.0);
        let bottom = top + row * self.bars.len() as f64;
        let ends = |b: &Bar| b.interval.map_or([b.value; 2], |(low, high)| [low, high]);
        let values = self.bars.iter().flat_map(|b| [b.value, ends(b)[0], ends(b)[1]]);
        let mut axis = Axis::over(Scale::Linear, values.chain([0.0]));
        axis.place(left, right);
        let mut body = format!("<text class=\"title\" x=\"8\" y=\"18\">{}</text>", escape(&self.title));
        for (x, label) in axis.ticks() {
            let _ = write!(
                body,
                "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/><text class=\"soft num\" x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{label}</text>",
                bottom + 17.0
            );
        }
        let mut about = format!("{}.", self.label);
        let zero = axis.at(0.0).unwrap_or(left);
        for (i, (bar, said)) in self.bars.iter().zip(&said).enumerate() {
            let y = top + row * i as f64;
            let _ = write!(about, " {}: {said}.", bar.name);
            let _ = write!(
                body,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
                 <text class=\"num\" x=\"{:.1}\" y=\"{:.1}\">{said}</text>",
                left - 10.0,
                y + 19.0,
                escape(&shortened(&bar.name, 26)),
                right + 10.0,
                y + 19.0
            );
            if let Some(x) = axis.at(bar.value) {
                let (from, width) = (zero.min(x), (x - zero).abs());
                let fill = color(0);
                let _ = write!(
                    body,
                    "<rect class=\"bar\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"18\" rx=\"2\" \
                     style=\"fill:{fill}\"/>",
                    y + 6.0
                );
            }
            if let Some((low, high)) = bar.interval.and_then(|(l, h)| axis.at(l).zip(axis.at(h))) {
                let _ = write!(
                    body,
                    "<path class=\"whisker\" fill=\"none\" d=\"M{low:.1} {:.1}v8m0 -4H{high:.1}m0 -4v8\"/>",
                    y + 11.0
                );
            }
        }
        let _ = write!(
            body,
            "<path class=\"frame\" d=\"M{zero:.1} {top}V{bottom}\"/><text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{}</text>",
            f64::midpoint(left, right),
            bottom + 36.0,
            escape(&self.label)
        );
        Svg::new(&self.title, about, (WIDTH, pixels(bottom + 46.0)), body)
    }
}

/// A table of numbers, each on a colour that says how large it is.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// What it shows.
    pub title: String,
    /// What the columns are.
    pub x_label: String,
    /// What the rows are.
    pub y_label: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Row after row; a value that is not finite stays an empty cell.
    pub values: Vec<f64>,
}

/// Opacity of a cell of this share of the range. Between these the number on it changes from ink to paper; the gap in the
/// middle keeps both readable.
fn opacity(share: f64) -> f64 {
    const SWITCH: f64 = 0.5;
    if share < SWITCH { 0.04 + 0.66 * share } else { 0.84 + 0.32 * (share - SWITCH) }
}

impl HeatMap {
    /// Draws the chart.
    ///
    /// # Panics
    /// When there are not rows times columns values.
    pub fn svg(&self) -> Svg {
        let (n, m) = (self.rows.len(), self.columns.len());
        assert_eq!(self.values.len(), n * m, "{n} rows and {m} columns");
        let finite = || self.values.iter().copied().filter(|v| v.is_finite());
        let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let widest = low.abs().max(high.abs());
        let (left, top) = (150.0, 62.0);
        let cell = ((f64::from(WIDTH) - left - 16.0) / m.max(1) as f64).clamp(30.0, 84.0);
        let (tall, room) = (30.0, 84.0);
        let places = if cell < 48.0 { 2 } else { 3 };
        let mut body = format!(
            "<text class=\"title\" x=\"8\" y=\"18\">{}</text><text class=\"soft\" x=\"{left}\" y=\"36\">{} →</text>\
             <text class=\"soft\" x=\"8\" y=\"54\">{} ↓</text>",
            escape(&self.title),
            escape(&self.x_label),
            escape(&self.y_label)
        );
        for (j, name) in self.columns.iter().enumerate() {
            let most = if cell >= room { 11 } else { 5 };
            let x = left + cell * (j as f64 + 0.5);
            let name = escape(&shortened(name, most));
            let _ = write!(body, "<text class=\"soft num\" x=\"{x:.1}\" y=\"54\" text-anchor=\"middle\">{name}</text>");
        }
        let mut best: Option<(f64, String)> = None;
        for (i, row) in self.rows.iter().enumerate() {
            let y = top + tall * i as f64;
            let name = escape(&shortened(row, 20));
            let _ =
                write!(body, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", left - 8.0, y + 19.0);
            for (j, column) in self.columns.iter().enumerate() {
                let value = self.values[i * m + j];
                if !value.is_finite() {
                    continue;
                }
                if best.as_ref().is_none_or(|(b, _)| value > *b) {
                    best = Some((value, format!("{row}, {column}")));
                }
                let share = if high > low { (value - low) / (high - low) } else { 0.0 };
                let opacity = opacity(share);
                let on = if opacity > 0.5 { " on" } else { "" };
                let x = left + cell * j as f64;
                let text = if widest < 10.0 { format!("{value:.places$}") } else { number(value) };
                let _ = write!(
                    body,
                    "<rect class=\"cell\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                     fill-opacity=\"{opacity:.3}\"/><text class=\"num{on}\" x=\"{:.1}\" y=\"{:.1}\" \
                     text-anchor=\"middle\">{text}</text>",
                    cell - 2.0,
                    tall - 2.0,
                    x + (cell - 2.0) / 2.0,
                    y + 19.0
                );
            }
        }
        let mut about = format!("{} by {}, {n} by {m} values", self.y_label, self.x_label);
        if let Some((value, place)) = best {
            let _ = write!(about, " from {} to {}, the largest at {place}", number(low), number(value));
        }
        about.push('.');
        let width = pixels(left + cell * m as f64 + 16.0).max(360);
        Svg::new(&self.title, about, (width, pixels(top + tall * n as f64 + 10.0)), body)
    }
}

/// Two quantities against the same setting, each with its own axis: agreement and distance against guidance.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// What it shows.
    pub title: String,
    /// The setting that was swept.
    pub x_label: String,
    /// The quantity of the left axis; its name is the axis' label.
    pub left: Series,
    /// The quantity of the right axis.
    pub right: Series,
    /// The setting that was chosen, where one was.
    pub chosen: Option<f64>,
}

impl Sweep {
    /// Draws the chart.
    pub fn svg(&self) -> Svg {
        let (right_edge, bottom) = (f64::from(WIDTH) - 64.0, 300.0);
        let both = || self.left.points.iter().chain(&self.right.points);
        let x = Axis::over(Scale::Linear, both().map(|p| p.0).chain(self.chosen));
        let y = Axis::over(Scale::Linear, self.left.points.iter().map(|p| p.1));
        let mut other = Axis::over(Scale::Linear, self.right.points.iter().map(|p| p.1));
        let labels = [self.x_label.as_str(), self.left.name.as_str()];
        let mut frame = Frame::new(&self.title, labels, x, y, [right_edge, bottom]);
        if let Some(at) = self.chosen.and_then(|c| frame.x.at(c)) {
            let _ = write!(
                frame.body,
                "<path class=\"frame\" stroke-dasharray=\"3 3\" d=\"M{at:.1} 36V{bottom}\"/>\
                 <text class=\"soft\" x=\"{:.1}\" y=\"33\" text-anchor=\"middle\">chosen</text>",
                at
            );
        }
        let style = |i| format!("class=\"curve\" style=\"stroke:{}\"{}", color(i), dash(i));
        frame.curve(&self.left.points, &style(0));
        dots(&mut frame, &self.left.points, 0);
        other.place(bottom, 36.0);
        for (at, label) in other.ticks() {
            let _ = write!(
                frame.body,
                "<path class=\"frame\" d=\"M{right_edge} {at:.1}h5\"/>\
                 <text class=\"soft num\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                right_edge + 9.0,
                at + 4.0
            );
        }
        std::mem::swap(&mut frame.y, &mut other);
        frame.curve(&self.right.points, &style(1));
        dots(&mut frame, &self.right.points, 1);
        let _ = write!(
            frame.body,
            "<text class=\"soft\" text-anchor=\"middle\" transform=\"translate({} 168) rotate(90)\">{}</text>",
            WIDTH - 12,
            escape(&self.right.name)
        );
        let names = [format!("{} (left)", self.left.name), format!("{} (right)", self.right.name)];
        let height = legend(&mut frame.body, &[&names[0], &names[1]], Mark::Line, bottom + 62.0);
        let mut about = format!("{} and {} against {}.", self.left.name, self.right.name, self.x_label);
        for (l, r) in self.left.points.iter().zip(&self.right.points) {
            let _ = write!(about, " At {}: {} and {}.", number(l.0), number(l.1), number(r.1));
        }
        Svg::new(&self.title, about, (WIDTH, pixels(bottom + 48.0 + height)), frame.body)
    }
}

fn dots(frame: &mut Frame, points: &[(f64, f64)], series: usize) {
    for &(x, y) in points {
        if let Some((x, y)) = frame.x.at(x).zip(frame.y.at(y)) {
            let fill = color(series);
            let _ = write!(frame.body, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" style=\"fill:{fill}\"/>");
        }
    }
}

/// Points of one or more kinds, each point with an optional name beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scatter {
    /// What it shows.
    pub title: String,
    /// Name and unit of the horizontal axis.
    pub x_label: String,
    /// Name and unit of the vertical axis.
    pub y_label: String,
    /// The kinds.
    pub series: Vec<Series>,
    /// Names of the points of all kinds in order; missing or empty ones draw none.
    pub names: Vec<String>,
    /// Spacing of the horizontal axis.
    pub x_scale: Scale,
    /// Spacing of the vertical axis.
    pub y_scale: Scale,
}

impl Scatter {
    /// Draws the chart.
    pub fn svg(&self) -> Svg {
        let all = || self.series.iter().flat_map(|s| &s.points);
        let x = Axis::over(self.x_scale, all().map(|p| p.0));
        let y = Axis::over(self.y_scale, all().map(|p| p.1));
        let bottom = 320.0;
        let size = [f64::from(WIDTH) - 16.0, bottom];
        let mut frame = Frame::new(&self.title, [&self.x_label, &self.y_label], x, y, size);
        for (i, series) in self.series.iter().enumerate() {
            dots(&mut frame, &series.points, i);
        }
        for (&(x, y), name) in all().zip(&self.names) {
            if let Some((x, y)) = frame.x.at(x).zip(frame.y.at(y)) {
                // Names near the right edge go to the left of their point.
                let (x, anchor) = if x > size[0] - 90.0 { (x - 7.0, "end") } else { (x + 7.0, "start") };
                let name = escape(name);
                let _ = write!(
                    frame.body,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{name}</text>",
                    y - 6.0
                );
            }
        }
        let names: Vec<&str> = self.series.iter().map(|s| s.name.as_str()).collect();
        let more = names.len() > 1;
        let below = if more { legend(&mut frame.body, &names, Mark::Dot, bottom + 62.0) } else { 0.0 };
        let about = format!("{} points of {} against {}.", all().count(), self.y_label, self.x_label);
        Svg::new(&self.title, about, (WIDTH, pixels(bottom + 48.0 + below)), frame.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::STYLE;

    #[test]
    fn bars_say_value_and_interval() {
        let bar = |name: &str, value, interval| Bar { name: name.to_owned(), value, interval };
        let bars =
            vec![bar("mid.1 <best>", 0.93, Some((0.91, 0.95))), bar("pixels", -0.1, None), bar("x", f64::NAN, None)];
        let svg = Bars { title: "Probe".to_owned(), label: "R²".to_owned(), bars }.svg().inline();
        assert!(svg.contains("0.93  [0.91, 0.95]") && svg.contains("mid.1 &lt;best&gt;"), "{svg}");
        assert_eq!(svg.matches("class=\"bar\"").count(), 2);
        assert_eq!(svg.matches("class=\"whisker\"").count(), 1);
        let long = bar("mean", 0.1494, Some((0.0204, 0.2783)));
        let svg_of = |bars| Bars { title: String::new(), label: String::new(), bars }.svg().inline();
        let (wide, narrow) = (svg_of(vec![long]), svg_of(vec![bar("mean", 0.1494, None)]));
        let starts = |svg: &str| -> f64 {
            let at = svg.rsplit("class=\"num\" x=\"").next().and_then(|t| t.split('"').next());
            at.and_then(|x| x.parse().ok()).unwrap()
        };
        assert!(starts(&narrow) - starts(&wide) > 20.0 && starts(&wide) + 7.0 * 24.0 < f64::from(WIDTH), "{wide}");
        let widths: Vec<f64> =
            svg.split("width=\"").skip(2).filter_map(|s| s.split('"').next()?.parse().ok()).collect();
        assert!((widths[0] / widths[1] - 9.3).abs() < 0.05, "{widths:?}");
    }

    #[test]
    fn a_heat_map_prints_each_number_and_names_the_largest() {
        let map = HeatMap {
            title: "R²".to_owned(),
            x_label: "level".to_owned(),
            y_label: "block".to_owned(),
            columns: vec!["0.1".to_owned(), "0.5".to_owned()],
            rows: vec!["down.0".to_owned(), "mid".to_owned()],
            values: vec![0.2, 0.5, f64::NAN, 0.875],
        };
        let svg = map.svg().inline();
        assert_eq!(svg.matches("class=\"cell\"").count(), 3);
        assert!(svg.contains(">0.875</text>") && svg.contains("from 0.2 to 0.875, the largest at mid, 0.5."), "{svg}");
    }

    /// Relative luminance and contrast by WCAG 2.1.
    fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
        let channel = |c: f64| if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
        let luminance = |c: [f64; 3]| 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn colors(name: &str) -> Vec<[f64; 3]> {
        let key = format!("--{name}:#");
        let hex = STYLE.split(&key).skip(1).map(|s| s.split([';', '}']).next().unwrap());
        hex.map(|h| {
            let wide = if h.len() == 3 { h.chars().flat_map(|c| [c, c]).collect() } else { h.to_owned() };
            [0, 2, 4].map(|i| f64::from(u8::from_str_radix(&wide[i..i + 2], 16).unwrap()) / 255.0)
        })
        .collect()
    }

    #[test]
    fn text_is_readable_in_light_and_dark() {
        let (ink, paper, soft, heat) = (colors("ink"), colors("paper"), colors("soft"), colors("heat"));
        assert_eq!(paper.len(), 2);
        for scheme in 0..2 {
            assert!(contrast(ink[scheme], paper[scheme]) > 7.0);
            assert!(contrast(soft[scheme], paper[scheme]) > 4.5);
            for i in 0..8 {
                let ratio = contrast(colors(&format!("c{i}"))[scheme], paper[scheme]);
                assert!(ratio > 4.5, "c{i} in scheme {scheme}: {ratio}");
            }
            for share in 0..=100 {
                let o = opacity(f64::from(share) / 100.0);
                let mix = |k: usize| o * heat[scheme][k] + (1.0 - o) * paper[scheme][k];
                let text = if o > 0.5 { paper[scheme] } else { ink[scheme] };
                let ratio = contrast([mix(0), mix(1), mix(2)], text);
                assert!(ratio > 4.5, "share {share} in scheme {scheme}: {ratio}");
            }
        }
    }

    #[test]
    fn a_sweep_and_a_scatter_draw_every_point() {
        let series = |name: &str, f: fn(f64) -> f64| Series {
            name: name.to_owned(),
            points: (0..5).map(|i| (f64::from(i), f(f64::from(i)))).collect(),
        };
        let (left, right) = (series("agreement", |x| 80.0 + 4.0 * x), series("distance", |x| 6.0 + x * x));
        let sweep = Sweep {
            title: "Guidance".to_owned(),
            x_label: "scale".to_owned(),
            left: left.clone(),
            right: right.clone(),
            chosen: Some(2.0),
        };
        let svg = sweep.svg().standalone();
        assert_eq!(svg.matches("<circle").count(), 10);
        assert!(svg.contains("At 2: 88 and 10.") && svg.contains(">chosen<"));
        let scatter = Scatter {
            title: "t".to_owned(),
            x_label: "x".to_owned(),
            y_label: "y".to_owned(),
            series: vec![left, right],
            names: vec!["one".to_owned()],
            x_scale: Scale::Log,
            y_scale: Scale::Linear,
        };
        // The two points at zero have no place on a logarithmic axis.
        // Two more stand in the legend.
        assert_eq!(scatter.svg().inline().matches("<circle").count(), 8 + 2);
    }
}

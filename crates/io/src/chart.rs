//! Charts as hand-written SVG: curves, bars with intervals, heat maps with numbers, sweeps with two axes, scatter.
//!
//! Colours are CSS variables, so that one page can be light or dark; [`Svg::standalone`] carries its own style. Every
//! chart has a title and a description for those who cannot see it, and series differ by dash as well as by colour.

use std::fmt::Write;

use crate::axis::{Axis, Scale, number};

/// Text made safe for HTML and SVG, in content and in quoted attributes; characters that XML forbids are dropped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

/// Style of every chart; the report puts it into its page once.
pub const STYLE: &str = "\
:root{--ink:#1c2430;--soft:#5a6675;--line:#d5dbe3;--paper:#fff;--heat:#0b5c9e;\
--c0:#0b62a8;--c1:#b3470a;--c2:#0b7a5b;--c3:#8a3ea0;--c4:#8a6100;--c5:#b0235f;--c6:#3b5bd9;--c7:#4f5b66}\
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#a3afbd;--line:#353f4b;--paper:#14181e;--heat:#9ad0ff;\
--c0:#6cb6f5;--c1:#f59b62;--c2:#55c9a0;--c3:#cf9be3;--c4:#dcb653;--c5:#f28bb4;--c6:#9db1ff;--c7:#b4bfca}}\
.chart{font:13px/1.3 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;max-width:100%;height:auto}\
.chart text{fill:var(--ink)}.chart .soft{fill:var(--soft);font-size:12px}.chart .title{font-weight:600;font-size:14px}\
.chart .grid{stroke:var(--line);stroke-width:1}.chart .frame{stroke:var(--soft);stroke-width:1}\
.chart .curve{fill:none;stroke-width:2;stroke-linejoin:round}.chart .raw{fill:none;stroke-width:1;opacity:.35}\
.chart .bar{opacity:.85}.chart .whisker{stroke:var(--ink);stroke-width:1.5}\
.chart .cell{fill:var(--heat)}.chart .num{font-variant-numeric:tabular-nums}.chart text.on{fill:var(--paper)}";

const DASHES: [&str; 4] = ["", "6 3", "2 3", "8 3 2 3"];

pub(crate) fn color(i: usize) -> String {
    format!("var(--c{})", i % 8)
}

pub(crate) fn dash(i: usize) -> String {
    match DASHES[i % DASHES.len()] {
        "" => String::new(),
        dashes => format!(" stroke-dasharray=\"{dashes}\""),
    }
}

/// A finished chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svg {
    title: String,
    about: String,
    width: u32,
    height: u32,
    body: String,
}

impl Svg {
    pub(crate) fn new(title: &str, about: String, size: (u32, u32), body: String) -> Self {
        Self { title: title.to_owned(), about, width: size.0, height: size.1, body }
    }

    /// What it shows.
    pub fn title(&self) -> &str {
        &self.title
    }

    fn element(&self, attributes: &str, style: &str) -> String {
        let (w, h) = (self.width, self.height);
        let (title, about) = (escape(&self.title), escape(&self.about));
        format!(
            "<svg class=\"chart\" role=\"img\" aria-label=\"{title}. {about}\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" \
             height=\"{h}\"{attributes}>{style}<title>{title}</title><desc>{about}</desc>{}</svg>",
            self.body
        )
    }

    /// As an element of a page that holds [`STYLE`].
    pub fn inline(&self) -> String {
        self.element("", "")
    }

    /// As a file of its own.
    pub fn standalone(&self) -> String {
        let style = format!("<style>{STYLE}</style><rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>");
        self.element(" xmlns=\"http://www.w3.org/2000/svg\"", &style)
    }
}

/// One named curve; points with a coordinate that is not finite leave a gap.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Shown in the legend.
    pub name: String,
    /// (x, y) in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
}

/// Curves over a common axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// What it shows.
    pub title: String,
    /// Name and unit of the horizontal axis.
    pub x_label: String,
    /// Name and unit of the vertical axis.
    pub y_label: String,
    /// The curves.
    pub series: Vec<Series>,
    /// Spacing of the horizontal axis.
    pub x_scale: Scale,
    /// Spacing of the vertical axis.
    pub y_scale: Scale,
    /// Weight in [0, 1) of the past in a running mean that is drawn over the faded raw curve; 0 draws the raw one only.
    pub smoothing: f64,
}

impl Default for Curves {
    fn default() -> Self {
        Self {
            title: String::new(),
            x_label: String::new(),
            y_label: String::new(),
            series: Vec::new(),
            x_scale: Scale::Linear,
            y_scale: Scale::Linear,
            smoothing: 0.0,
        }
    }
}

pub(crate) const WIDTH: u32 = 720;
const LEFT: f64 = 64.0;
const TOP: f64 = 36.0;

/// Running mean m_t = sum_i w^(t-i) y_i / sum_i w^(t-i): unbiased from the first point on.
///
/// # Source
/// The bias correction of Adam (arXiv 1412.6980, section 3), as TensorBoard's smoothing has it.
pub fn smooth(values: &[f64], weight: f64) -> Vec<f64> {
    let (mut sum, mut mass) = (0.0, 0.0);
    let mean = |&y: &f64| {
        if y.is_finite() {
            sum = weight * sum + y;
            mass = weight * mass + 1.0;
        }
        if y.is_finite() { sum / mass } else { f64::NAN }
    };
    values.iter().map(mean).collect()
}

/// The plotting area with its grid, its two axes and the title.
pub(crate) struct Frame {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) body: String,
    pub(crate) bottom: f64,
}

impl Frame {
    pub(crate) fn new(title: &str, labels: [&str; 2], mut x: Axis, mut y: Axis, size: [f64; 2]) -> Self {
        let [right, bottom] = size;
        x.place(LEFT, right);
        y.place(bottom, TOP);
        let mut body = format!("<text class=\"title\" x=\"8\" y=\"18\">{}</text>", escape(title));
        for (at, label) in y.ticks() {
            let _ = write!(
                body,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text class=\"soft num\" x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{label}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        for (at, label) in x.ticks() {
            let _ = write!(
                body,
                "<path class=\"frame\" d=\"M{at:.1} {bottom}v5\"/><text class=\"soft num\" x=\"{at:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{label}</text>",
                bottom + 19.0
            );
        }
        let [x_label, y_label] = labels.map(escape);
        let (middle, center) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, bottom));
        let _ = write!(
            body,
            "<path class=\"frame\" d=\"M{LEFT} {bottom}H{right}\"/><text class=\"soft\" x=\"{middle:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{x_label}</text><text class=\"soft\" text-anchor=\"middle\" \
             transform=\"translate(15 {center:.1}) rotate(-90)\">{y_label}</text>",
            bottom + 38.0
        );
        Self { x, y, body, bottom }
    }

    /// A curve through the points that both axes can show, with gaps at the others.
    pub(crate) fn curve(&mut self, points: &[(f64, f64)], style: &str) {
        let mut d = String::new();
        let mut down = false;
        let placed = points.iter().map(|&(x, y)| self.x.at(x).zip(self.y.at(y))).collect::<Vec<_>>();
        for (i, point) in thinned(&placed).into_iter().enumerate() {
            match point {
                Some((x, y)) => {
                    let _ = write!(d, "{}{x:.1} {y:.1}", if down { 'L' } else { 'M' });
                    // A point alone between gaps would be invisible.
                    let alone = !down && placed.len() == 1 && i == 0;
                    if alone {
                        d.push_str("h0.1");
                    }
                    down = true;
                }
                None => down = false,
            }
        }
        let _ = write!(self.body, "<path d=\"{d}\" stroke-linecap=\"round\" {style}/>");
    }
}

type Placed = Option<(f64, f64)>;

/// Per pixel column the first, lowest, highest and last point: thousands of steps draw as a few hundred points that look
/// the same.
fn thinned(points: &[Placed]) -> Vec<Placed> {
    const FEW: usize = 1500;
    if points.len() <= FEW {
        return points.to_vec();
    }
    let column = |p: &Placed| p.map(|(x, _)| x.floor().to_bits());
    let mut out = Vec::new();
    for group in points.chunk_by(|a, b| column(a) == column(b)) {
        let high = |i: &usize, j: &usize| match (group[*i], group[*j]) {
            (Some((_, a)), Some((_, b))) => a.total_cmp(&b),
            _ => std::cmp::Ordering::Equal,
        };
        let ends = [0, group.len() - 1];
        let extremes = [(0..group.len()).min_by(high), (0..group.len()).max_by(high)];
        let mut keep: Vec<usize> = ends.into_iter().chain(extremes.into_iter().flatten()).collect();
        keep.sort_unstable();
        keep.dedup();
        out.extend(keep.into_iter().map(|i| group[i]));
    }
    out
}

/// How a series is marked in the legend.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    Line,
    Dot,
}

/// Legend entries from left to right under the title; returns the height they take.
pub(crate) fn legend(body: &mut String, names: &[&str], mark: Mark, top: f64) -> f64 {
    let (mut x, mut y) = (LEFT, top);
    for (i, name) in names.iter().enumerate() {
        let width = 34.0 + 7.2 * name.chars().count() as f64;
        if x + width > f64::from(WIDTH) && x > LEFT {
            (x, y) = (LEFT, y + 18.0);
        }
        let (line, color) = (y - 4.0, color(i));
        let _ = match mark {
            Mark::Line => {
                let dash = dash(i);
                write!(body, "<path class=\"curve\" d=\"M{x:.1} {line:.1}h22\" style=\"stroke:{color}\"{dash}/>")
            }
            Mark::Dot => {
                write!(body, "<circle cx=\"{:.1}\" cy=\"{line:.1}\" r=\"3.5\" style=\"fill:{color}\"/>", x + 15.0)
            }
        };
        let _ = write!(body, "<text x=\"{:.1}\" y=\"{y:.1}\">{}</text>", x + 28.0, escape(name));
        x += width + 14.0;
    }
    y - top + 26.0
}

impl Curves {
    /// Draws the chart.
    pub fn svg(&self) -> Svg {
        let all = || self.series.iter().flat_map(|s| &s.points);
        let x = Axis::over(self.x_scale, all().map(|p| p.0)).tight(all().map(|p| p.0));
        let y = Axis::over(self.y_scale, all().map(|p| p.1));
        let (right, bottom) = (f64::from(WIDTH) - 16.0, 300.0);
        let mut frame = Frame::new(&self.title, [&self.x_label, &self.y_label], x, y, [right, bottom]);
        let mut about = format!("{} over {}.", self.y_label, self.x_label);
        for (i, series) in self.series.iter().enumerate() {
            let style = |class: &str| format!("class=\"{class}\" style=\"stroke:{}\"{}", color(i), dash(i));
            if self.smoothing > 0.0 {
                let raw: Vec<f64> = series.points.iter().map(|p| p.1).collect();
                let smooth = smooth(&raw, self.smoothing);
                let points: Vec<_> = series.points.iter().zip(smooth).map(|(p, y)| (p.0, y)).collect();
                frame.curve(&series.points, &format!("class=\"raw\" style=\"stroke:{}\"", color(i)));
                frame.curve(&points, &style("curve"));
            } else {
                frame.curve(&series.points, &style("curve"));
            }
            let shown: Vec<_> = series.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
            if let (Some(first), Some(last)) = (shown.first(), shown.last()) {
                let _ = write!(about, " {} goes from {} to {}.", series.name, number(first.1), number(last.1));
            }
        }
        if all().all(|&(x, y)| frame.x.at(x).is_none() || frame.y.at(y).is_none()) {
            about.push_str(" No data.");
            frame.body.push_str("<text class=\"soft\" x=\"380\" y=\"170\" text-anchor=\"middle\">no data</text>");
        }
        let mut height = bottom + 48.0;
        if self.series.len() > 1 {
            let names: Vec<&str> = self.series.iter().map(|s| s.name.as_str()).collect();
            height += legend(&mut frame.body, &names, Mark::Line, frame.bottom + 62.0);
        }
        Svg::new(&self.title, about, (WIDTH, pixels(height)), frame.body)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "chart heights are small and positive")]
pub(crate) fn pixels(height: f64) -> u32 {
    height.ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves() -> Curves {
        let points = |f: fn(f64) -> f64| (1..=50).map(|i| (f64::from(i), f(f64::from(i)))).collect();
        Curves {
            title: "Loss <train> & \"val\"".to_owned(),
            x_label: "images".to_owned(),
            y_label: "loss".to_owned(),
            series: vec![
                Series { name: "train".to_owned(), points: points(|x| 1.0 / x) },
                Series {
                    name: "</text><script>".to_owned(),
                    points: points(|x| if x < 3.0 { f64::NAN } else { 2.0 / x }),
                },
            ],
            ..Curves::default()
        }
    }

    #[test]
    fn everything_foreign_is_escaped() {
        assert_eq!(escape("<a href='x'>&\"\u{0}\u{7}\n"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\n");
        let svg = curves().svg().standalone();
        assert!(!svg.contains("<script") && !svg.contains("<train>"), "{svg}");
        assert!(svg.contains("<title>Loss &lt;train&gt; &amp; &quot;val&quot;</title>"));
        assert!(svg.contains("train goes from 1 to 0.02."));
    }

    #[test]
    fn smoothing_is_unbiased_and_leaves_gaps() {
        assert_eq!(smooth(&[2.0, 2.0, 2.0], 0.9), [2.0, 2.0, 2.0]);
        // (0.5 * 1 + 3) / (0.5 + 1)
        assert_eq!(smooth(&[1.0, 3.0], 0.5)[1], 3.5 / 1.5);
        let gap = smooth(&[1.0, f64::NAN, 1.0], 0.5);
        assert!(gap[1].is_nan() && gap[2] == 1.0);
        assert_eq!(smooth(&[1.0, 5.0], 0.0), [1.0, 5.0]);
    }

    #[test]
    fn gaps_break_the_line_and_bad_values_of_a_log_axis_are_left_out() {
        let one = |points: Vec<(f64, f64)>, y_scale| {
            let series = vec![Series { name: "a".to_owned(), points }];
            let svg = Curves { series, y_scale, ..Curves::default() }.svg().inline();
            let d = svg.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
            (d.matches('M').count(), d.matches('L').count())
        };
        let gap = vec![(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 2.0)];
        assert_eq!(one(gap, Scale::Linear), (2, 2));
        assert_eq!(one(vec![(0.0, 1.0), (1.0, 0.0), (2.0, -1.0), (3.0, 10.0)], Scale::Log), (2, 0));
    }

    #[test]
    fn empty_and_constant_charts_draw() {
        let empty = Curves { series: vec![Series { name: "a".to_owned(), points: vec![] }], ..Curves::default() };
        assert!(empty.svg().inline().contains("no data"));
        for y in [0.0, 5.0, -1e300, f64::MIN_POSITIVE] {
            let series = vec![Series { name: "a".to_owned(), points: vec![(1.0, y)] }];
            for y_scale in [Scale::Linear, Scale::Log] {
                let svg = Curves { series: series.clone(), y_scale, ..Curves::default() }.svg().inline();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn long_curves_are_thinned_but_keep_their_extremes() {
        let points: Vec<Placed> =
            (0..100_000).map(|i| Some((f64::from(i) / 150.0, f64::from((i * 7919) % 1000)))).collect();
        let few = thinned(&points);
        assert!(few.len() < 4 * 700, "{}", few.len());
        let range = |p: &[Placed]| {
            let ys = || p.iter().flatten().map(|p| p.1);
            (ys().fold(f64::MAX, f64::min), ys().fold(f64::MIN, f64::max))
        };
        assert_eq!(range(&few), range(&points));
        assert_eq!((few.first(), few.last()), (points.first(), points.last()));
    }
}

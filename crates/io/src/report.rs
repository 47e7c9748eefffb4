//! One self-contained HTML page: sections of text, facts, tables, charts and pictures, light and dark, nothing fetched.
//!
//! The page forbids itself every request by a content security policy; pictures are inside it as data.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::chart::{STYLE, Svg, escape};

/// Version of the page's layout, in its `pentimento-format-version`.
pub const FORMAT_VERSION: u32 = 1;

const PAGE: &str = "\
*{box-sizing:border-box}html{color-scheme:light dark}\
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:62rem;background:var(--paper);color:var(--ink);\
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
header{border-bottom:2px solid var(--ink);margin-bottom:1.5rem}h1{font-size:1.75rem;line-height:1.25;margin:0 0 .25rem}\
header p{margin:0 0 1rem;color:var(--soft)}nav{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:0 0 1rem;font-size:.9rem}nav a{white-space:nowrap}\
a{color:var(--c0)}section{margin-top:2.5rem}h2{font-size:1.25rem;margin:0 0 .75rem;padding-bottom:.25rem;\
border-bottom:1px solid var(--line)}p{max-width:46rem}\
figure{margin:1.25rem 0}figcaption,caption{color:var(--soft);font-size:.9rem;text-align:left;padding:.25rem 0}\
figure>svg{display:block}.scroll{overflow-x:auto}\
table{border-collapse:collapse;font-size:.93rem;margin:1rem 0}caption{caption-side:top}\
th,td{padding:.35rem .9rem .35rem 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}\
thead th{border-bottom:1px solid var(--soft);font-weight:600}tbody th{font-weight:500}\
.n{text-align:right;font-variant-numeric:tabular-nums}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.25rem;margin:1rem 0}\
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\
pre{overflow-x:auto;padding:.75rem 1rem;border:1px solid var(--line);border-radius:4px;font-size:.85rem;line-height:1.45}\
.pictures{display:flex;flex-wrap:wrap;gap:1rem}.pictures figure{margin:0;max-width:100%}\
.pictures img{image-rendering:pixelated;max-width:100%;height:auto;border:1px solid var(--line);display:block}\
@media print{nav{display:none}section{break-inside:avoid}}";

/// A table with a header for each column; the first cell of a row is the row's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Cells, row after row.
    pub rows: Vec<Vec<String>>,
}

/// A picture of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// The encoded picture.
    pub png: Vec<u8>,
    /// What those who cannot see it should know.
    pub alt: String,
    /// The line under it.
    pub caption: String,
    /// Width on the page in CSS pixels; pixels of the picture stay sharp squares.
    pub width: u32,
}

/// A page that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    title: String,
    subtitle: String,
    sections: Vec<(String, String)>,
}

impl Report {
    /// Begins a page.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), subtitle: String::new(), sections: Vec::new() }
    }

    /// The line under the title: date, machine, revision.
    #[must_use]
    pub fn subtitle(mut self, text: impl Into<String>) -> Self {
        self.subtitle = text.into();
        self
    }

    /// Begins a section; what follows belongs to it.
    #[must_use]
    pub fn section(mut self, heading: impl Into<String>) -> Self {
        self.sections.push((heading.into(), String::new()));
        self
    }

    fn body(&mut self) -> &mut String {
        if self.sections.is_empty() {
            self.sections.push((String::new(), String::new()));
        }
        let last = self.sections.len() - 1;
        &mut self.sections[last].1
    }

    /// A paragraph of text.
    #[must_use]
    pub fn paragraph(mut self, text: &str) -> Self {
        let _ = write!(self.body(), "<p>{}</p>", escape(text));
        self
    }

    /// Names and values, one pair a line: the plan in short, the machine.
    #[must_use]
    pub fn facts(mut self, pairs: &[(&str, String)]) -> Self {
        let body = self.body();
        body.push_str("<dl>");
        for (name, value) in pairs {
            let _ = write!(body, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
        }
        body.push_str("</dl>");
        self
    }

    /// Text as it is, with its line breaks: the resolved plan.
    #[must_use]
    pub fn code(mut self, text: &str) -> Self {
        let _ = write!(self.body(), "<pre tabindex=\"0\">{}</pre>", escape(text));
        self
    }

    /// A table; a column that holds only numbers is set flush right.
    #[must_use]
    pub fn table(mut self, table: &Table) -> Self {
        let numeric = |j: usize| {
            let mut cells = table.rows.iter().filter_map(|r| r.get(j)).filter(|c| !c.is_empty()).peekable();
            cells.peek().is_some() && cells.all(|c| is_number(c))
        };
        let classes: Vec<&str> =
            (0..table.columns.len()).map(|j| if numeric(j) { " class=\"n\"" } else { "" }).collect();
        let class = |j: usize| classes.get(j).copied().unwrap_or("");
        let body = self.body();
        let _ = write!(
            body,
            "<div class=\"scroll\" tabindex=\"0\"><table><caption>{}</caption><thead><tr>",
            escape(&table.caption)
        );
        for (j, name) in table.columns.iter().enumerate() {
            let _ = write!(body, "<th scope=\"col\"{}>{}</th>", class(j), escape(name));
        }
        body.push_str("</tr></thead><tbody>");
        for row in &table.rows {
            body.push_str("<tr>");
            for (j, cell) in row.iter().enumerate() {
                let (open, close) = if j == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
                let _ = write!(body, "<{open}{}>{}</{close}>", class(j), escape(cell));
            }
            body.push_str("</tr>");
        }
        body.push_str("</tbody></table></div>");
        self
    }

    /// A chart with a line under it.
    #[must_use]
    pub fn figure(mut self, svg: &Svg, caption: &str) -> Self {
        let caption =
            if caption.is_empty() { String::new() } else { format!("<figcaption>{}</figcaption>", escape(caption)) };
        let _ = write!(self.body(), "<figure>{}{caption}</figure>", svg.inline());
        self
    }

    /// Pictures side by side.
    #[must_use]
    pub fn pictures(mut self, pictures: &[Picture]) -> Self {
        let body = self.body();
        body.push_str("<div class=\"pictures\">");
        for p in pictures {
            let _ = write!(
                body,
                "<figure><img width=\"{}\" alt=\"{}\" src=\"data:image/png;base64,{}\"><figcaption>{}</figcaption></figure>",
                p.width,
                escape(&p.alt),
                STANDARD.encode(&p.png),
                escape(&p.caption)
            );
        }
        body.push_str("</div>");
        self
    }

    /// The page.
    pub fn render(&self) -> String {
        let title = escape(&self.title);
        let subtitle = escape(&self.subtitle);
        let headed = || self.sections.iter().enumerate().filter(|(_, (heading, _))| !heading.is_empty());
        let mut nav = String::new();
        if headed().count() > 1 {
            nav.push_str("<nav aria-label=\"Sections\">");
            for (i, (heading, _)) in headed() {
                let _ = write!(nav, "<a href=\"#s{i}\">{}</a>", escape(heading));
            }
            nav.push_str("</nav>");
        }
        let mut main = String::new();
        for (i, (heading, body)) in self.sections.iter().enumerate() {
            let heading = if heading.is_empty() { String::new() } else { format!("<h2>{}</h2>", escape(heading)) };
            let _ = writeln!(main, "<section id=\"s{i}\">{heading}{body}</section>");
        }
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"generator\" content=\"Pentimento {}\">\
             <meta name=\"pentimento-format-version\" content=\"{FORMAT_VERSION}\">\
             <title>{title}</title><style>{STYLE}{PAGE}</style></head>\n<body><header><h1>{title}</h1><p>{subtitle}</p>{nav}</header>\n\
             <main>{main}</main></body></html>\n",
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// A number, also one with a sign, unit `%`, plus-minus or an interval after it.
fn is_number(cell: &str) -> bool {
    let first = cell.trim_start_matches(['+', '-', '−']);
    let allowed = |c: char| c.is_ascii_digit() || " .,%±-−+[]()e×kMG".contains(c);
    first.starts_with(|c: char| c.is_ascii_digit()) && cell.chars().all(allowed) || matches!(cell, "–" | "n/a")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axis::Scale;
    use crate::chart::{Curves, Series};
    use crate::plots::{Bar, Bars, HeatMap, Scatter, Sweep};
    use crate::png_out::{encode, grid};
    use crate::{Array, Values};

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|s| (*s).to_owned()).collect()
    }

    fn disc(shade: u8) -> Array {
        let pixel = |i: u32| {
            let (y, x) = (f64::from(i >> 4) - 7.5, f64::from(i % 16) - 7.5);
            if x * x + y * y < 30.0 { [shade, 90, 255 - shade] } else { [20, 22, 28] }
        };
        Array::new(vec![16, 16, 3], Values::U8((0..256).flat_map(pixel).collect()))
    }

    fn noisy(i: u32, rate: f64, floor: f64) -> f64 {
        let wave = (f64::from(i) * 12.9898).sin() * 43_758.545;
        floor + (-f64::from(i) * rate).exp() + 0.12 * (wave - wave.floor() - 0.5)
    }

    fn sample() -> Report {
        let curve = |name: &str, rate, floor| Series {
            name: name.to_owned(),
            points: (0..400).map(|i| (f64::from(i) * 400.0, noisy(i, rate, floor))).collect(),
        };
        let curves = Curves {
            title: "Loss".to_owned(),
            x_label: "images".to_owned(),
            y_label: "loss".to_owned(),
            series: vec![curve("train", 0.02, 0.3), curve("validation", 0.018, 0.36), curve("EMA", 0.03, 0.28)],
            smoothing: 0.9,
            ..Curves::default()
        };
        let log =
            Curves { title: "Loss, logarithmic".to_owned(), y_scale: Scale::Log, smoothing: 0.0, ..curves.clone() };
        let bar = |name: &str, value, low, high| Bar { name: name.to_owned(), value, interval: Some((low, high)) };
        let bars = Bars {
            title: "Linear probe of x".to_owned(),
            label: "R² with 95 % bootstrap interval".to_owned(),
            bars: vec![
                bar("raw pixels", 0.61, 0.58, 0.64),
                bar("random network", 0.52, 0.47, 0.55),
                bar("down.1 at t = 0.2", 0.93, 0.915, 0.94),
            ],
        };
        let levels = ["0.05", "0.1", "0.2", "0.4", "0.6", "0.8"];
        let blocks = ["down.0", "down.1", "mid", "up.0", "up.1"];
        let heat = HeatMap {
            title: "R² by block and level".to_owned(),
            x_label: "level t".to_owned(),
            y_label: "block".to_owned(),
            columns: strings(&levels),
            rows: strings(&blocks),
            values: (0..30).map(|i| 0.3 + 0.6 * (f64::from(i) * 0.37).sin().abs()).collect(),
        };
        let points = |f: fn(f64) -> f64| (0..7).map(|i| (1.0 + f64::from(i) * 0.5, f(f64::from(i)))).collect();
        let sweep = Sweep {
            title: "Guidance sweep".to_owned(),
            x_label: "guidance scale (1 = none)".to_owned(),
            left: Series { name: "agreement, %".to_owned(), points: points(|i| 99.0 - 19.0 * (-i).exp()) },
            right: Series { name: "Frechet distance".to_owned(), points: points(|i| 6.0 + 0.3 * i * i) },
            chosen: Some(2.0),
        };
        let scatter = Scatter {
            title: "Speed and quality".to_owned(),
            x_label: "images/s".to_owned(),
            y_label: "distance".to_owned(),
            series: vec![
                Series { name: "U-Net".to_owned(), points: vec![(120.0, 7.0), (300.0, 9.5)] },
                Series { name: "DiT".to_owned(), points: vec![(210.0, 8.0), (650.0, 14.0)] },
            ],
            names: strings(&["S", "Ti", "S/4", "Ti/8"]),
            x_scale: Scale::Log,
            y_scale: Scale::Linear,
        };
        let tiles: Vec<Array> = (0..16).map(|i| disc(i * 16)).collect();
        let png = encode(&grid(&tiles, 8), &[]).unwrap();
        let picture = |step: &str| Picture {
            png: png.clone(),
            alt: format!("Grid of 16 discs drawn after {step} images"),
            caption: format!("after {step} images"),
            width: 420,
        };
        let table = Table {
            caption: "Probes on held-out data; intervals are 95 % bootstrap".to_owned(),
            columns: strings(&["target", "block", "R²", "raw pixels", "random network"]),
            rows: vec![
                strings(&["x", "down.1", "0.930 [0.915, 0.940]", "0.610", "0.520"]),
                strings(&["scale", "mid", "0.871 [0.850, 0.889]", "0.402", "0.388"]),
            ],
        };
        Report::new("Sprites, U-Net-S")
            .subtitle("Run 00007 · 2026-11-21 08:02 UTC · 2 cores · revision 2546196")
            .section("Plan")
            .facts(&[("network", "U-Net, 32 channels, 0.8 M parameters".to_owned()), ("images", "180,000".to_owned())])
            .code("[train]\nbatch = 64\nlr = 1e-3\nloss = \"<velocity>\"")
            .section("Curves")
            .paragraph("The faded lines are single steps, the strong ones running means.")
            .figure(&curves.svg(), "Training and validation loss.")
            .figure(&log.svg(), "")
            .section("Pictures")
            .pictures(&[picture("20,000"), picture("180,000")])
            .section("Probes")
            .table(&table)
            .figure(&bars.svg(), "")
            .figure(&heat.svg(), "Each cell is a probe of its own.")
            .section("Guidance")
            .figure(&sweep.svg(), "More guidance agrees more and strays further from the data.")
            .figure(&scatter.svg(), "")
    }

    /// Set PENTIMENTO_REPORT_OUT to keep the page for looking at.
    #[test]
    fn the_sample_page_is_whole_and_asks_for_nothing() {
        let page = sample().render();
        let dir = tempfile::tempdir().unwrap();
        let out = std::env::var_os("PENTIMENTO_REPORT_OUT").map_or(dir.path().join("report.html"), Into::into);
        crate::atomic::write_bytes(&out, page.as_bytes()).unwrap();
        for forbidden in ["http://", "https://", "<script", "url(", "@import", "<link", "NaN", "javascript:"] {
            let found = page.match_indices(forbidden).count();
            assert_eq!(found, 0, "{forbidden}");
        }
        for tag in ["section", "figure", "table", "svg", "text", "dl", "th", "td", "div", "nav", "main", "title"] {
            let count = |s: String| page.matches(&s).count();
            let opened = count(format!("<{tag}>")) + count(format!("<{tag} "));
            assert_eq!(opened, count(format!("</{tag}>")), "{tag}");
        }
        assert_eq!(page.matches("<img ").count(), page.matches(" alt=\"Grid of").count());
        assert_eq!(page.matches("role=\"img\"").count(), 6);
        assert!(page.contains("<th scope=\"col\" class=\"n\">R²</th>") && page.contains("<th scope=\"row\">x</th>"));
        assert!(page.contains("loss = &quot;&lt;velocity&gt;&quot;"));
        assert!(page.contains("<a href=\"#s1\">Curves</a>") && page.contains("<section id=\"s1\"><h2>Curves</h2>"));
    }

    #[test]
    fn hostile_text_stays_text_everywhere() {
        let evil = "</title></style></pre><script>alert(1)</script>\" onload=\"x";
        let table =
            Table { caption: evil.into(), columns: vec![evil.into()], rows: vec![vec![evil.into(), evil.into()]] };
        let picture = Picture { png: vec![1], alt: evil.into(), caption: evil.into(), width: 1 };
        let page = Report::new(evil)
            .subtitle(evil)
            .paragraph(evil)
            .section(evil)
            .facts(&[(evil, evil.to_owned())])
            .code(evil)
            .table(&table)
            .pictures(&[picture])
            .figure(&Curves { title: evil.into(), x_label: evil.into(), ..Curves::default() }.svg(), evil)
            .render();
        assert!(!page.contains("<script") && !page.contains("\" onload=\""), "{page}");
        assert_eq!(page.matches("</title>").count(), 2);
        assert_eq!(page.matches("</style>").count(), 1);
    }

    #[test]
    fn columns_of_numbers_are_told_from_text() {
        for yes in ["1", "-0.5", "97.8 %", "0.93 [0.91, 0.95]", "1.2 ± 0.1", "1e-3", "180k", "–"] {
            assert!(is_number(yes), "{yes}");
        }
        for no in ["", "mid", "down.1", "2 cores", "v1"] {
            assert!(!is_number(no), "{no}");
        }
    }
}

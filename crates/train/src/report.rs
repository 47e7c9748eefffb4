use crate::judge::{Judgement, read_judgement};
use crate::probe::{Place, ProbeReport};
use crate::{Checkpoint, Error, Meta, RunFolder};
use pentimento_io::axis::Scale;
use pentimento_io::chart::{Curves, Series};
use pentimento_io::plots::{Bar, Bars, HeatMap, Sweep};
use pentimento_io::report::{Picture, Report, Table};
use pentimento_io::{atomic, jsonl, system, text};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Writes `report.html` of a run: plan, curves, pictures over time, judge, probes, machine. Returns its path.
///
/// # Errors
/// A folder that holds no run.
pub fn write_report(run: &Path, out: Option<&Path>) -> Result<PathBuf, Error> {
    let (saved, _) = Checkpoint::newest(run)?;
    let meta = match saved {
        Some(c) => c.meta,
        None => {
            let why = "holds no checkpoint, so there is nothing to report; train it first".into();
            return Err(Error::NoRun { path: run.into(), why });
        }
    };
    let stats = jsonl::read(&run.join("stats.jsonl"))?.values;
    let plan: Value =
        text::read(&run.join("plan.json")).ok().and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
    let name = plan["name"].as_str().unwrap_or("run").to_owned();
    let length = &meta.recipe["train"]["images"];
    let mut page = Report::new(&name).subtitle(format!("{} of {length} images", meta.images));
    page = plan_section(page, run, &plan, &meta);
    page = curves(page, &stats);
    page = pictures(page, run)?;
    if let Some(j) = read_judgement(run) {
        page = judged(page, &j);
    }
    if let Some(p) = read_probes(run) {
        page = probed(page, &p);
    }
    page = machine(page, &meta, &stats);
    let path = out.map_or_else(|| run.join("report.html"), Path::to_owned);
    atomic::write_bytes(&path, page.render().as_bytes())?;
    Ok(path)
}

/// The probes in a run folder, if there are any.
pub fn read_probes(run: &Path) -> Option<ProbeReport> {
    serde_json::from_str(&text::read(&run.join("probe.json")).ok()?).ok()
}

fn plan_section(page: Report, run: &Path, plan: &Value, meta: &Meta) -> Report {
    let [c, h, w] = meta.signature.input;
    let millions = |key: &str, what: &str| plan[key].as_f64().map(|n| format!("{:.3} M {what}", n / 1e6));
    let sizes = [millions("parameters", "parameters"), millions("macs", "multiply-adds per image")];
    let train = &meta.recipe["train"];
    let data = &meta.recipe["data"];
    let name = data["name"].as_str().or(data["train"].as_str());
    let mut facts = vec![
        ("Data", format!("{} {c}x{h}x{w}, {} classes", name.unwrap_or_default(), meta.signature.classes.len())),
        ("Content of the data", meta.data_hash.clone()),
        ("Model", sizes.into_iter().flatten().collect::<Vec<_>>().join(", ")),
        ("Length", format!("{} images in steps of {}", train["images"], train["batch"])),
        ("Products", plan["products"].as_str().unwrap_or("unknown").to_owned()),
    ];
    if let Some(method) = meta.recipe["method"].as_str() {
        facts.insert(0, ("Method", method.to_owned()));
    }
    let recipe = text::read(&run.join("recipe.toml")).unwrap_or_default();
    page.section("Plan").facts(&facts).code(&recipe)
}

/// One scalar of the log against images seen.
fn series(stats: &[Value], kind: &str, key: &str) -> Vec<(f64, f64)> {
    let of = |line: &Value| Some((line["images"].as_f64()?, line[key].as_f64()?));
    stats.iter().filter(|l| l["kind"] == kind).filter_map(of).collect()
}

fn curves(page: Report, stats: &[Value]) -> Report {
    let one = |name: &str, kind: &str, key: &str| Series { name: name.into(), points: series(stats, kind, key) };
    let chart = |title: &str, y: &str, series: Vec<Series>, y_scale, smoothing| {
        let series: Vec<Series> = series.into_iter().filter(|s| !s.points.is_empty()).collect();
        Curves {
            title: title.into(),
            x_label: "images seen".into(),
            y_label: y.into(),
            series,
            y_scale,
            smoothing,
            ..Curves::default()
        }
    };
    let loss = chart(
        "Loss",
        "loss",
        vec![one("training", "train", "loss"), one("validation", "val", "loss")],
        Scale::Log,
        0.0,
    );
    let norm = chart("Gradient norm", "norm", vec![one("before clipping", "train", "grad_norm")], Scale::Log, 0.6);
    let rate = chart("Rate", "images / s", vec![one("images / s", "train", "images_per_s")], Scale::Linear, 0.0);
    let memory = chart(
        "Memory",
        "MiB",
        vec![one("resident", "train", "memory_mib"), one("peak", "train", "peak_mib")],
        Scale::Linear,
        0.0,
    );
    page.section("Curves")
        .figure(&loss.svg(), "")
        .figure(&norm.svg(), "")
        .figure(&rate.svg(), "")
        .figure(&memory.svg(), "")
}

/// Up to six grids, evenly over the run, the last among them.
fn pictures(page: Report, run: &Path) -> Result<Report, Error> {
    let all = RunFolder::pictures(run);
    let n = all.len();
    let shown = n.min(6);
    let chosen = (0..shown).map(|i| ((i + 1) * n).div_ceil(shown) - 1);
    let mut list = Vec::new();
    for (images, path) in chosen.map(|i| &all[i]) {
        let png = pentimento_io::source::Source::open(path)?.whole(16 << 20)?;
        let caption = format!("after {images} images");
        list.push(Picture { png, alt: format!("grid of pictures {caption}"), caption, width: 440 });
    }
    Ok(if list.is_empty() { page } else { page.section("Pictures over time").pictures(&list) })
}

fn judged(page: Report, j: &Judgement) -> Report {
    let percent = |v: f64| format!("{:.1} %", 100.0 * v);
    let mut columns: Vec<String> =
        ["guidance", "agreement", "95 % interval", "Frechet distance", "coverage"].map(String::from).into();
    columns.extend(j.judge_r2.iter().map(|(name, _)| format!("KS of {name}")));
    let rows = j.sweep.iter().map(|p| {
        let mut row = vec![
            format!("{}{}", p.guidance, if (p.guidance - j.shown).abs() < 1e-9 { " (shown)" } else { "" }),
            percent(p.agreement.value),
            format!("{} to {}", percent(p.agreement.low), percent(p.agreement.high)),
            format!("{:.2}", p.frechet),
            format!("{:.3}", p.coverage),
        ];
        row.extend(p.ks.iter().map(|(_, v)| format!("{v:.3}")));
        row
    });
    let table = Table { caption: format!("{} pictures per scale", j.samples), columns, rows: rows.collect() };
    let points = |f: &dyn Fn(&crate::SweepPoint) -> f64| j.sweep.iter().map(|p| (p.guidance, f(p))).collect();
    let sweep = Sweep {
        title: "Guidance: agreement and distance".into(),
        x_label: "guidance scale".into(),
        left: Series { name: "agreement with the requested class".into(), points: points(&|p| p.agreement.value) },
        right: Series { name: "Frechet distance in the judge's features".into(), points: points(&|p| p.frechet) },
        chosen: Some(j.shown),
    };
    let r2: Vec<String> = j.judge_r2.iter().map(|(n, v)| format!("{n} {v:.3}")).collect();
    let text = format!(
        "An independent network, trained on data the model never saw, names the class of {} of held-out items{}. Real test images \
         have Frechet distance {:.2} and coverage {:.3}.",
        percent(j.judge_accuracy),
        if r2.is_empty() { String::new() } else { format!(" and reads their factors with R^2: {}", r2.join(", ")) },
        j.real_frechet,
        j.real_coverage
    );
    page.section("Judge").paragraph(&text).figure(&sweep.svg(), "").table(&table)
}

fn probed(page: Report, p: &ProbeReport) -> Report {
    let rows = p.rows.iter().map(|r| {
        let interval = format!("{:.3} to {:.3}", r.interval.low, r.interval.high);
        vec![r.target.clone(), r.features.clone(), r.width.to_string(), format!("{:.3}", r.score), interval]
    });
    let caption = format!(
        "Scores on {} test items; place and strength chosen on {} others; pooling {}",
        p.items[2], p.items[1], p.pool
    );
    let columns = ["target", "features", "width", "score", "95 % interval"].map(String::from).into();
    let mut page = page.section("Probes").table(&Table { caption, columns, rows: rows.collect() });
    let gains = p.gains.iter().flat_map(|(target, pixels, random)| {
        let bar = |name: &str, d: &pentimento_measure::Difference| Bar {
            name: format!("{target}: {name}"),
            value: d.value,
            interval: Some((d.interval.low, d.interval.high)),
        };
        [bar("over pixels", pixels), bar("over random", random)]
    });
    let bars = Bars {
        title: "Gain of the model's features".into(),
        label: "difference of scores on the same items".into(),
        bars: gains.collect(),
    };
    page = page.figure(&bars.svg(), "");
    let mut targets: Vec<&String> = p.map.iter().map(|c| &c.target).collect();
    targets.dedup();
    for target in targets {
        let cells: Vec<&Place> = p.map.iter().filter(|c| &c.target == target).collect();
        let (blocks, levels) = (unique(cells.iter().map(|c| &c.block)), unique(cells.iter().map(|c| &c.level)));
        let value = |b: &String, l: &String| {
            cells.iter().find(|c| &c.block == b && &c.level == l).map_or(f64::NAN, |c| c.score)
        };
        let values = blocks.iter().flat_map(|b| levels.iter().map(move |l| (b, l))).map(|(b, l)| value(b, l)).collect();
        let map = HeatMap {
            title: format!("{target}: validation score by block and level"),
            x_label: "time of the noise".into(),
            y_label: "block".into(),
            columns: levels.clone(),
            rows: blocks.clone(),
            values,
        };
        page = page.figure(&map.svg(), "");
    }
    page
}

/// Each value once, in order of appearance.
fn unique<'a>(values: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for v in values {
        if !seen.contains(v) {
            seen.push(v.clone());
        }
    }
    seen
}

fn machine(page: Report, meta: &Meta, stats: &[Value]) -> Report {
    let last = |key: &str| series(stats, "train", key).last().map_or(f64::NAN, |p| p.1);
    let mut facts: Vec<(&str, String)> = vec![
        ("Processor", system::processor()),
        ("Training", format!("{:.0} s, {:.0} images / s at the end", meta.elapsed_s, last("images_per_s"))),
        ("Peak memory", format!("{:.0} MiB", last("peak_mib"))),
        ("Steps without a finite gradient", meta.nonfinite[1].to_string()),
        ("Numerics version", meta.numerics.to_string()),
    ];
    facts.extend(meta.machine.iter().map(|(k, v)| (k.as_str(), v.clone())));
    page.section("Machine and timings").facts(&facts)
}

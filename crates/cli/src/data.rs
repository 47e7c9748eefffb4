//! `pentimento data`

use crate::exit::{DONE, NEGATIVE, Outcome};
use crate::terminal::{result, say, steps_bar};
use indicatif::{ProgressBar, ProgressStyle};
use pentimento_data::catalogue::{self, ENTRIES, Entry, Fetch, File, Origin};
use pentimento_data::{Open, Report, check, data_folders, open};
use pentimento_io::{Error, png_out};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Bad items that are listed one by one; the others are only counted.
const LISTED: usize = 20;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Known data sets: what they hold, where they were found or how to get them, licences.
    List(ListArgs),
    /// Read a data set through: counts, labels, ranges, unusable items, a grid of pictures.
    Check(CheckArgs),
    /// Fetch a known data set from its official address or a mirror, by checksum.
    Get(GetArgs),
}

#[derive(clap::Args)]
struct ListArgs {
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct CheckArgs {
    /// A known name (`pentimento data list`), or a file or folder.
    name: String,
    /// Edge in pixels to which pictures are resized and centre-cropped; as they are if absent.
    #[arg(long, default_value_t = 0)]
    px: usize,
    /// Unusable items are no failure: they would be left out, as with `data.skip_bad = true`.
    #[arg(long)]
    skip_bad: bool,
    /// The grid of pictures, a PNG; <name>-grid.png here if absent.
    #[arg(long)]
    out: Option<PathBuf>,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct GetArgs {
    /// A known name (`pentimento data list`).
    name: String,
    /// Folder of data sets; the set becomes a folder in it. The first place that is searched if absent.
    #[arg(long)]
    to: Option<PathBuf>,
    /// Checksum of a set of one file whose checksum is not known, or of a mirror's copy.
    #[arg(long, value_name = "SUM")]
    sha256: Option<String>,
    /// Fetch from a mirror: the address of a folder that holds the set's files under their official names. They are
    /// checked all the same.
    #[arg(long, value_name = "URL")]
    from: Option<String>,
}

pub fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::List(a) => list(a),
        Command::Check(a) => check_set(a),
        Command::Get(a) => get(a),
    }
}

fn list(args: &ListArgs) -> Outcome {
    let places: Vec<(&Entry, String)> = ENTRIES.iter().map(|e| (e, place(e, &data_folders()))).collect();
    if args.json {
        let all = places
            .iter()
            .map(|(e, place)| (e.name.to_owned(), json!({"what": e.what, "place": place, "licence": e.licence})));
        result(&Value::Object(all.collect()).to_string());
        return Ok(DONE);
    }
    for (e, place) in places {
        result(&format!("{:<14} {}\n{:14} {place}\n{:14} licence: {}", e.name, e.what, "", "", e.licence));
    }
    Ok(DONE)
}

/// Where a set is, or how it is had.
fn place(entry: &Entry, folders: &[PathBuf]) -> String {
    match entry.origin {
        Origin::Procedural => "generated, no files needed".into(),
        Origin::Embedded => "part of this program".into(),
        Origin::Files(_) | Origin::Archive(..) => {
            let found = folders.iter().map(|f| f.join(entry.name)).find(|p| p.is_dir());
            let fetch = || {
                let sum = if files(entry).iter().all(|f| f.sha256.is_some()) { "" } else { " --sha256 <its checksum>" };
                format!("not found; fetch it with: pentimento data get {}{sum}", entry.name)
            };
            found.map_or_else(fetch, |p| format!("in {}", p.display()))
        }
    }
}

/// The files that a set is fetched as.
fn files(entry: &Entry) -> &[File] {
    match &entry.origin {
        Origin::Procedural | Origin::Embedded => &[],
        Origin::Files(files) => files,
        Origin::Archive(file, _) => std::slice::from_ref(file),
    }
}

fn check_set(args: &CheckArgs) -> Outcome {
    // Unusable items are left out here in any case, so that all of them are found and not only the first. Where none is
    // left, the first says why.
    let set = |skip_bad| open(&args.name, &Open { px: args.px, skip_bad, ..Open::default() });
    let opened = set(true).map_err(|e| set(false).err().unwrap_or(e))?;
    let bar = steps_bar("reading");
    let report = check(opened.data.as_ref(), None, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let mut bad = opened.skipped;
    bad.sort();
    let left_out: Vec<u64> = bad.iter().map(|(i, _)| *i).collect();
    bad.extend(report.bad.iter().map(|(i, why)| (number(*i, &left_out), why.clone())));
    bad.sort();
    anyhow::ensure!(
        report.good() > 0,
        "{}: holds no usable item of {}",
        args.name,
        report.items + left_out.len() as u64
    );
    let out = args.out.clone().unwrap_or_else(|| default_grid(&args.name));
    if let Some(grid) = &report.grid {
        if let Some(folder) = out.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| Error::os(folder, "make", e))?;
        }
        png_out::save(&out, grid, &[])?;
    }
    if args.json {
        result(&as_json(&report, &bad, &out).to_string());
    } else {
        result(&as_lines(&args.name, &report, &bad, &out));
    }
    Ok(if bad.is_empty() || args.skip_bad { DONE } else { NEGATIVE })
}

/// The number that item i had before `left_out` (ascending) were left out.
fn number(i: u64, left_out: &[u64]) -> u64 {
    left_out.iter().fold(i, |i, &out| if out <= i { i + 1 } else { i })
}

fn default_grid(name: &str) -> PathBuf {
    let last = Path::new(name).file_name().map_or(name.into(), |n| n.to_string_lossy());
    format!("{}-grid.png", last.replace(':', "-")).into()
}

fn as_json(report: &Report, bad: &[(u64, String)], grid: &Path) -> Value {
    let factors = report.factors.iter().map(|(name, range)| (name.clone(), json!(range)));
    let bad: Vec<Value> = bad.iter().map(|(i, why)| json!({"item": i, "why": why})).collect();
    json!({
        "good": report.good(),
        "bad": bad,
        "shape": report.shape,
        "classes": report.classes,
        "histogram": report.histogram,
        "unlabelled": report.unlabelled,
        "range": report.range,
        "mean": report.mean,
        "std": report.std,
        "factors": factors.collect::<serde_json::Map<_, _>>(),
        "grid": grid,
    })
}

fn as_lines(name: &str, report: &Report, bad: &[(u64, String)], grid: &Path) -> String {
    let [c, h, w] = report.shape;
    let [lo, hi] = report.range;
    let mut lines = vec![
        format!("{name}: {} usable items, {} unusable", report.good(), bad.len()),
        format!("shape     {c} x {h} x {w} (channels, height, width)"),
        format!("values    {lo:.3} to {hi:.3}, mean {:.4}, standard deviation {:.4}", report.mean, report.std),
    ];
    let counts: Vec<String> =
        report.classes.iter().zip(&report.histogram).map(|(class, n)| format!("{class} {n}")).collect();
    if !counts.is_empty() {
        lines.push(format!("labels    {}", counts.join(", ")));
    }
    if report.unlabelled > 0 {
        lines.push(format!("unlabelled {}", report.unlabelled));
    }
    for (name, [lo, hi]) in &report.factors {
        lines.push(format!("factor    {name} {lo} to {hi}"));
    }
    lines.extend(bad.iter().take(LISTED).map(|(i, why)| format!("unusable  item {i}: {why}")));
    if bad.len() > LISTED {
        lines.push(format!("unusable  and {} more; --json lists all", bad.len() - LISTED));
    }
    if report.grid.is_some() {
        lines.push(format!("pictures  {}", grid.display()));
    }
    lines.join("\n")
}

fn get(args: &GetArgs) -> Outcome {
    let entry = catalogue::find(&args.name)?;
    let wanted = files(entry);
    if wanted.is_empty() {
        say(&format!("{}: {}; nothing to fetch", entry.name, place(entry, &[])));
        return Ok(DONE);
    }
    let to = args.to.clone().or_else(|| data_folders().into_iter().next()).unwrap_or_else(|| "data".into());
    say(&format!("{}: {}; licence: {}", entry.name, entry.what, entry.licence));
    let bar = bytes_bar();
    let how = Fetch { sha256: args.sha256.as_deref(), from: args.from.as_deref() };
    let paths = catalogue::get(entry.name, &to, how, &mut |file, p| {
        bar.set_length(p.total.unwrap_or(p.done));
        bar.set_position(p.done);
        bar.set_message(file.to_owned());
    });
    bar.finish_and_clear();
    let paths = paths?;
    for file in wanted {
        let path = to.join(entry.name).join(file.name);
        let sum = args.sha256.as_deref().or(file.sha256).unwrap_or_default();
        result(&format!("{}  {} bytes, SHA-256 {sum} matches", path.display(), bytes(&path)?));
    }
    for path in paths.iter().filter(|p| !wanted.iter().any(|f| p.ends_with(f.name))) {
        result(&format!("{}  {} bytes", path.display(), bytes(path)?));
    }
    say(&format!("next: pentimento data check {}", entry.name));
    Ok(DONE)
}

fn bytes(path: &Path) -> Result<u64, Error> {
    Ok(std::fs::metadata(path).map_err(|e| Error::os(path, "read", e))?.len())
}

/// A bar over bytes.
fn bytes_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:28} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    steps_bar("connecting").with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_the_numbers_they_had() {
        // 0 1 2 3 4 5 6 without 0, 3 and 4.
        let kept: Vec<u64> = (0..4).map(|i| number(i, &[0, 3, 4])).collect();
        assert_eq!(kept, [1, 2, 5, 6]);
        assert_eq!(number(7, &[]), 7);
    }

    #[test]
    fn a_set_is_in_its_folder_or_comes_with_the_command_that_fetches_it() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name| place(catalogue::find(name).unwrap(), &[dir.path().into()]);
        assert_eq!(of("mnist"), "not found; fetch it with: pentimento data get mnist");
        assert_eq!(of("dsprites"), "not found; fetch it with: pentimento data get dsprites --sha256 <its checksum>");
        assert_eq!([of("sprites"), of("digits")], ["generated, no files needed", "part of this program"]);
        std::fs::create_dir(dir.path().join("mnist")).unwrap();
        assert_eq!(of("mnist"), format!("in {}", dir.path().join("mnist").display()));
    }

    #[test]
    fn grids_are_named_after_the_last_part_of_the_path() {
        let named = |n| default_grid(n).display().to_string();
        assert_eq!(
            [named("mnist:test"), named("a/cats.zip"), named("cats/")],
            ["mnist-test-grid.png", "cats.zip-grid.png", "cats-grid.png"]
        );
    }
}

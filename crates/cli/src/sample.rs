//! `pentimento sample`

use crate::exit::{DONE, Outcome};
use crate::terminal::{Opened, Steps, open_any, result, say};
use pentimento_claims::LearnedModel;
use pentimento_diffusion::{Grid, Sampler};
use pentimento_io::{Array, Values, atomic, npz, png_out};
use pentimento_train::{Drawing, Drawn, Model, Precision, SampleTable, bytes, default_out};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    /// A run folder, or a model.safetensors.
    run: PathBuf,
    /// Number of pictures.
    #[arg(short, default_value_t = 16)]
    n: usize,
    /// Class of all pictures, by name or number; in turn through all classes if absent.
    #[arg(long)]
    class: Option<String>,
    /// Steps of the sampler; the recipe's if absent, like all below.
    #[arg(long)]
    steps: Option<usize>,
    /// euler, heun, ddim, ancestral, dpmpp_2m, ...
    #[arg(long)]
    sampler: Option<Sampler>,
    /// Spacing of the steps: uniform, karras, logsnr, even
    #[arg(long)]
    grid: Option<Grid>,
    /// Guidance scale, 1 = none.
    #[arg(long, visible_alias = "cfg-scale")]
    guidance: Option<f64>,
    /// Times between which guidance acts: --interval 0.2,0.8
    #[arg(long, value_parser = interval)]
    interval: Option<[f64; 2]>,
    /// Kind of products: fp32, bf16, or auto, which is bf16 where the device is faster in it.
    #[arg(long)]
    precision: Option<Precision>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of the first picture: sample 17 is the same picture in every batch.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Pictures at once.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Folder for the pictures, with their grid beside it in a file of that name and .png; <run>/drawn if absent.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Also write samples.npz in the layout of the ADM evaluator.
    #[arg(long)]
    npz: bool,
    /// Write the grid only, no single pictures.
    #[arg(long)]
    grid_only: bool,
    /// cpu, cuda or cuda:<n>
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub fn run(args: &Args) -> Outcome {
    let started = Instant::now();
    anyhow::ensure!(args.n > 0, "-n = 0; must be at least 1");
    match open_any(&args.run, &args.device)? {
        Opened::Diffusion(model) => of_diffusion(args, &model, started),
        Opened::Method(model) => of_method(args, &model, started),
    }
}

fn of_diffusion(args: &Args, model: &Model, started: Instant) -> Outcome {
    let mut drawing =
        Drawing { n: args.n, seed: args.seed, first: args.first, batch: args.batch, ..Drawing::of(&model.recipe) };
    let how = &mut drawing.how;
    how.steps = args.steps.unwrap_or(how.steps);
    how.sampler = args.sampler.unwrap_or(how.sampler);
    how.grid = args.grid.unwrap_or(how.grid);
    how.guidance = args.guidance.unwrap_or(how.guidance);
    how.interval = args.interval.unwrap_or(how.interval);
    how.precision = args.precision.unwrap_or(how.precision);
    drawing.check()?;
    drawing.class = args.class.as_deref().map(|c| model.class(c)).transpose()?;
    let mut bar = Steps::new("drawing");
    let drawn = drawing.run(model, &mut |done, all| {
        bar.at("drawing", done as u64, all as u64);
    })?;
    drop(bar);
    let chunks = |i: Option<usize>| {
        let text = drawing.text(model, i);
        vec![("parameters", text.parameters), ("pentimento", text.plan)]
    };
    write(args, &drawn, started, &chunks, &drawing.grid(&drawn, model)?)
}

fn of_method(args: &Args, model: &LearnedModel, started: Instant) -> Outcome {
    let given = args.steps.is_some() || args.sampler.is_some() || args.grid.is_some();
    let slug = model.method.slug;
    anyhow::ensure!(
        !given && args.guidance.is_none() && args.interval.is_none() && args.precision.is_none(),
        "--steps, --sampler, --grid, --guidance, --interval and --precision are a diffusion recipe's; {slug} draws as its own settings say"
    );
    let class = args.class.as_deref().map(|c| model.class(c)).transpose()?;
    let (n, batch, how) = (args.n, args.batch, SampleTable::default());
    let drawing = Drawing { n, class, seed: args.seed, first: args.first, batch, how };
    let mut bar = Steps::new("drawing");
    let drawn = model.draw(&drawing, &mut |done, all| bar.at("drawing", done, all))?;
    drop(bar);
    let chunks = |i: Option<usize>| vec![("pentimento", model.text(&drawing, i.unwrap_or(0)))];
    let grid = png_out::grid(&bytes(&drawn.x), 10.min(args.n));
    write(args, &drawn, started, &chunks, &encoded(&grid, &chunks(None))?)
}

fn encoded(picture: &Array, chunks: &[(&str, String)]) -> anyhow::Result<Vec<u8>> {
    let chunks: Vec<_> = chunks.iter().map(|(k, v)| (*k, v.as_str())).collect();
    Ok(png_out::encode(picture, &chunks)?)
}

/// Writes pictures with their text chunks, the grid beside them, and what the ADM evaluator reads.
fn write(
    args: &Args,
    drawn: &Drawn,
    started: Instant,
    chunks: &dyn Fn(Option<usize>) -> Vec<(&'static str, String)>,
    grid_png: &[u8],
) -> Outcome {
    let out = args.out.clone().unwrap_or_else(|| default_out(&args.run));
    let grid = grid_path(&out);
    // A folder that would stay empty is not made.
    let folder = if args.grid_only && !args.npz { grid.parent().unwrap_or(&out) } else { &out };
    std::fs::create_dir_all(folder).map_err(|e| pentimento_io::Error::os(folder, "make", e))?;
    let pictures = bytes(&drawn.x);
    if !args.grid_only {
        for (i, picture) in pictures.iter().enumerate() {
            let png = encoded(picture, &chunks(Some(i)))?;
            atomic::write_bytes(&out.join(format!("{:06}.png", args.first + i as u64)), &png)?;
            if i == 0 {
                say(&format!("first picture after {:.2} s", started.elapsed().as_secs_f64()));
            }
        }
    }
    atomic::write_bytes(&grid, grid_png)?;
    if args.npz {
        let path = out.join("samples.npz");
        write_npz(&path, &pictures, &drawn.y)?;
        result(&path.display().to_string());
    }
    result(&grid.display().to_string());
    Ok(DONE)
}

/// Beside the folder, so that whatever reads the folder counts drawn pictures alone.
fn grid_path(out: &Path) -> PathBuf {
    let Some(name) = out.file_name() else { return out.join("grid.png") };
    let mut name = name.to_owned();
    name.push(".png");
    out.with_file_name(name)
}

/// Two times as typed, `0.2,0.8`.
pub(crate) fn interval(text: &str) -> Result<[f64; 2], String> {
    let times = text.split_once(',').and_then(|(lo, hi)| Some([lo.trim().parse().ok()?, hi.trim().parse().ok()?]));
    times.ok_or_else(|| "write two times: --interval 0.2,0.8".into())
}

/// Pictures as the ADM evaluator reads them: `arr_0` bytes `[N, H, W, 3]`, `arr_1` labels.
fn write_npz(path: &Path, pictures: &[Array], labels: &[i64]) -> anyhow::Result<()> {
    let Some(first) = pictures.first() else { return Ok(()) };
    let [h, w, c] = [first.shape()[0], first.shape()[1], first.shape()[2]];
    let mut bytes = Vec::with_capacity(pictures.len() * h * w * 3);
    for picture in pictures {
        if let Values::U8(pixels) = picture.values() {
            // Grey pictures become three equal channels: the evaluators know colour only.
            bytes.extend(pixels.chunks(c).flat_map(|p| if c == 1 { [p[0]; 3] } else { [p[0], p[1], p[2]] }));
        }
    }
    let images = Array::new(vec![pictures.len(), h, w, 3], Values::U8(bytes));
    let labels = Array::new(vec![labels.len()], Values::I64(labels.to_vec()));
    let mut arrays = vec![("arr_0", &images)];
    if let Values::I64(l) = labels.values()
        && l.iter().all(|&y| y >= 0)
    {
        arrays.push(("arr_1", &labels));
    }
    Ok(atomic::write_atomic(path, |w| {
        let mut buffer = std::io::Cursor::new(Vec::new());
        npz::write(&mut buffer, arrays)?;
        std::io::Write::write_all(w, buffer.get_ref())
    })?)
}

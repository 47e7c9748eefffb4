//! `pentimento measure`

use crate::exit::{DONE, Outcome};
use crate::terminal::{Steps, result};
use crate::{extract, representation};
use anyhow::{bail, ensure};
use clap::ValueEnum;
use pentimento_data::{Open, open};
use pentimento_io::features::Features as Table;
use pentimento_io::npz::Npz;
use pentimento_io::reference::{Moments, Reference};
use pentimento_io::{Error, Values};
use pentimento_measure as measure;
use pentimento_measure::{Bootstrap, Features, Gaussian, Pictures, Proportion};
use pentimento_train::Range;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Fewest items a side for which a Frechet distance is taken without being told to: below, Inception's covariance is singular.
const FEWEST: usize = 2048;
/// Half the width of a normal 95 % interval in standard errors.
const NORMAL: f64 = 1.959_963_984_540_054;
const NOT_STATED: &str = "not stated";
const PIXELS: &str = "raw pixels";
const GIVEN: &str = "given statistics";

#[derive(clap::Args)]
pub struct Args {
    /// What to measure.
    #[arg(value_enum)]
    metric: Metric,
    /// What is judged: pictures (a folder, an .npz batch, any data set by name or path), a table of features (.parquet or .npz
    /// made by `pentimento encode`), or statistics (.npz with mu and sigma).
    a: String,
    /// What it is compared with: the same, for a metric of two sets.
    b: Option<String>,
    /// Edge in pixels to which pictures of both sides are cropped and averaged; as they are if absent.
    #[arg(long, default_value_t = 0)]
    px: usize,
    /// Pictures or rows used of each side, the first n; 0 = all.
    #[arg(short, default_value_t = 0)]
    n: u64,
    /// Measure although N is small, differs between the sides, or features come from different extractors.
    #[arg(long)]
    force: bool,
    /// Seed of subsets, directions, shuffles and resamples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Neighbours of precision-recall (3 if absent) and density-coverage (5 if absent).
    #[arg(short)]
    k: Option<usize>,
    /// Items of each of the 100 subsets of kid.
    #[arg(long, default_value_t = 1000)]
    subset_size: usize,
    /// Directions of sliced-wasserstein.
    #[arg(long, default_value_t = 1000)]
    projections: usize,
    /// Width of the Gaussian kernel of mmd; the median distance if absent.
    #[arg(long)]
    bandwidth: Option<f64>,
    /// Splits of inception.
    #[arg(long, default_value_t = 10)]
    splits: usize,
    /// The features for inception are probabilities, not logits.
    #[arg(long)]
    probabilities: bool,
    /// What gives features of pictures, or maps for lpips: a TorchScript file (.pt; Inception, CLIP, DINO or your own), or the run
    /// of a method. Pixels themselves if absent.
    #[arg(long)]
    extractor: Option<PathBuf>,
    /// The values that a TorchScript extractor wants: signed (-1 to 1), unit (0 to 1), bytes (0 to 255) or imagenet.
    #[arg(long, default_value = "signed")]
    extractor_input: Range,
    /// Weights of the channels for lpips: an .npz with an array for each layer, in the order of their names. Ones if absent.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Where statistics goes: an .npz with mu and sigma.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Device of the extractor: cpu, cuda or cuda:<n>.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Window of ssim.
    #[arg(long, value_enum, default_value = "gaussian")]
    window: Window,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Metric {
    /// Frechet distance of Gaussians fitted to features (FID with Inception features): 0 is best; compare at equal N only.
    Frechet,
    /// Kernel inception distance, unbiased at any N: about 0 is best.
    Kid,
    /// Inception score of one set from a table of classifier logits: sure of each item and all classes used; more is better.
    Inception,
    /// Share of A that looks like B, and share of B that A can make (Kynkaanniemi et al.).
    PrecisionRecall,
    /// How densely and how widely A fills the neighbourhoods of B (Naeem et al.).
    DensityCoverage,
    /// Wasserstein-2 distance of features projected onto random directions: 0 is best.
    SlicedWasserstein,
    /// Squared maximum mean discrepancy with a Gaussian kernel, unbiased: about 0 is best.
    Mmd,
    /// Squared energy distance, unbiased, with nothing to choose: about 0 is best.
    Energy,
    /// Peak signal-to-noise ratio of A and B picture by picture, in decibels: more is better.
    Psnr,
    /// Structural similarity of A and B picture by picture: 1 is best.
    Ssim,
    /// Multi-scale structural similarity picture by picture, from 161 pixels a side: 1 is best.
    MsSsim,
    /// Perceptual distance of A and B picture by picture, over the maps of --extractor: 0 is best.
    Lpips,
    /// How alike two models see the same items, by centred kernels: 1 is alike up to rotation and scale.
    Cka,
    /// The same among each item's nearest neighbours alone.
    Cknna,
    /// Share of nearest neighbours that two models have in common.
    MutualNeighbours,
    /// Mean canonical correlation of two models' main directions.
    Svcca,
    /// Distance of two models' features after the best rotation.
    Procrustes,
    /// Intrinsic dimension of a table of features, by TwoNN and by the nearest neighbours' likelihood.
    Dimension,
    /// Effective rank and participation ratio of a table of features.
    Rank,
    /// Whether few items are neighbours of very many.
    Hubness,
    /// How evenly features cover the sphere (Wang and Isola).
    Uniformity,
    /// What the columns of a table have in common, in nats.
    TotalCorrelation,
    /// Mutual information gap of codes, for the factors in their table.
    Mig,
    /// Whether each code says something of one factor alone.
    Modularity,
    /// Disentanglement, completeness and informativeness by boosted trees.
    Dci,
    /// Separated attribute predictability.
    Sap,
    /// InfoMEC: modularity, explicitness, compactness.
    Infomec,
    /// Mean correlation of factors with the codes that fit them best.
    Mcc,
    /// Mean and covariance of the features of one set, written to --out for frechet distances to come.
    Statistics,
}

#[derive(Clone, Copy, ValueEnum)]
enum Window {
    /// 11 x 11 Gaussian of width 1.5, as in the paper.
    Gaussian,
    /// 7 x 7 average, as scikit-image unless told otherwise.
    Uniform,
}

impl Metric {
    fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    fn of_one_set(self) -> bool {
        matches!(self, Self::Inception | Self::Statistics) || self.of_shape() || self.of_factors()
    }

    fn of_shape(self) -> bool {
        matches!(self, Self::Dimension | Self::Rank | Self::Hubness | Self::Uniformity | Self::TotalCorrelation)
    }

    fn of_factors(self) -> bool {
        matches!(self, Self::Mig | Self::Modularity | Self::Dci | Self::Sap | Self::Infomec | Self::Mcc)
    }

    /// Of two models that saw the same items.
    fn of_models(self) -> bool {
        matches!(self, Self::Cka | Self::Cknna | Self::MutualNeighbours | Self::Svcca | Self::Procrustes)
    }

    fn compares_pictures(self) -> bool {
        matches!(self, Self::Psnr | Self::Ssim | Self::MsSsim | Self::Lpips)
    }
}

/// One of the two things compared.
pub struct Side {
    pub name: String,
    /// Of a table: the data it was made of, where that is said, and the numbers of its items.
    pub items: Option<(Option<String>, Vec<i64>)>,
    /// Factors by name, each `[N]`.
    pub factors: Vec<(String, Vec<f64>)>,
    n: Option<usize>,
    extractor: String,
    resize: String,
    what: What,
}

enum What {
    Features(Features),
    Statistics(Gaussian),
    Pictures(Pictures),
}

/// A number and what is known of its uncertainty.
pub struct Measured {
    pub name: &'static str,
    pub value: f64,
    pub interval: Option<[f64; 2]>,
    /// What the interval covers, or what else to know.
    pub note: String,
}

pub fn run(args: &Args) -> Outcome {
    let metric = args.metric.name();
    match (&args.b, args.metric) {
        (Some(_), m) if m.of_one_set() => bail!("{metric}: is of one set and compares nothing; leave out the second"),
        (None, m) if !m.of_one_set() => bail!("{metric}: compares two sets; name the second"),
        _ => {}
    }
    ensure!(
        args.metric != Metric::Lpips || args.extractor.is_some(),
        "{metric}: compares a network's maps; name one that gives them with --extractor"
    );
    ensure!(
        (args.metric == Metric::Statistics) == args.out.is_some(),
        "--out goes with statistics, and statistics with --out"
    );
    let a = side(&args.a, args)?;
    let b = args.b.as_deref().map(|name| side(name, args)).transpose()?;
    if let Some(b) = b.as_ref().filter(|_| !args.metric.of_models()) {
        comparable(&a, b, args)?;
    }
    let measured = match &b {
        Some(b) if args.metric.of_models() => representation::of_two(args.metric, &a, b, args.k)?,
        Some(b) => two_sided(&a, b, args)?,
        None if args.metric.of_shape() => representation::of_one(args.metric, &a, args.k)?,
        None if args.metric.of_factors() => representation::of_factors(args.metric, &a, args.seed)?,
        None if args.metric == Metric::Statistics => keep(&a, args)?,
        None => inception(&a, args)?,
    };
    if args.json {
        let sides = [("a", Some(&a)), ("b", b.as_ref())].into_iter().filter_map(|(k, s)| Some((k, s?)));
        let mut out: Map<String, Value> = sides.map(|(k, s)| (k.to_owned(), s.json())).collect();
        out.insert("metric".into(), metric.into());
        out.insert("values".into(), measured.iter().map(|m| (m.name.to_owned(), m.json())).collect());
        result(&Value::Object(out).to_string());
        return Ok(DONE);
    }
    [Some(&a), b.as_ref()].into_iter().flatten().zip(["A", "B"]).for_each(|(s, letter)| result(&s.line(letter)));
    measured.iter().for_each(|m| result(&m.line()));
    Ok(DONE)
}

/// Reads one side as what it is.
fn side(name: &str, args: &Args) -> anyhow::Result<Side> {
    let path = Path::new(name);
    match path.extension().and_then(|e| e.to_str()) {
        Some("npz") if path.is_file() => {
            let npz = Npz::open(path)?;
            if npz.has("feature") {
                return table(name, Table::read_npz(path)?, args);
            }
            if Reference::recognise(&npz) && (args.metric == Metric::Frechet || !npz.has("arr_0")) {
                return statistics(name, &npz);
            }
            pictures(name, args)
        }
        // Pictures come as Parquet too; what is neither is told as a table.
        Some("parquet") if path.is_file() => match Table::read_parquet(path) {
            Ok(read) => table(name, read, args),
            Err(e) => pictures(name, args).map_err(|_| e.into()),
        },
        _ => pictures(name, args),
    }
}

fn table(name: &str, table: Table, args: &Args) -> anyhow::Result<Side> {
    let made_by = |key: &str| table.provenance.get(key);
    let extractor = match (made_by("features"), made_by("run")) {
        (Some(features), Some(run)) => {
            let rest = ["images", "pool"].iter().filter_map(|k| Some(format!(", {k} {}", made_by(k)?)));
            format!("{features} of {run}{}", rest.collect::<String>())
        }
        _ => NOT_STATED.to_owned(),
    };
    let width = table.feature.shape().get(1).copied().unwrap_or_default();
    let Values::F32(values) = table.feature.into_values() else {
        return Err(Error::bad(Path::new(name), "feature", "no f32", "write it with `pentimento encode`").into());
    };
    let mut features = Features::new(width, values)?;
    let first = usize::try_from(args.n)?;
    let (mut index, mut factors) = (table.index, table.factors);
    if first > 0 && first < features.n() {
        features = features.select(&(0..first).collect::<Vec<_>>())?;
        index.truncate(first);
        factors.iter_mut().for_each(|(_, values)| values.truncate(first));
    }
    let n = Some(features.n());
    let items = Some((table.provenance.get("data").cloned(), index));
    Ok(Side {
        name: name.to_owned(),
        items,
        factors,
        n,
        extractor,
        resize: NOT_STATED.into(),
        what: What::Features(features),
    })
}

fn statistics(name: &str, npz: &Npz) -> anyhow::Result<Side> {
    let pool = Reference::from_npz(npz)?.pool;
    let gaussian = Gaussian::from_moments(None, pool.mean, &pool.covariance)?;
    let (extractor, resize) = (GIVEN.to_owned(), NOT_STATED.to_owned());
    Ok(Side {
        name: name.to_owned(),
        items: None,
        factors: Vec::new(),
        n: None,
        extractor,
        resize,
        what: What::Statistics(gaussian),
    })
}

fn pictures(name: &str, args: &Args) -> anyhow::Result<Side> {
    let data = open(name, &Open { px: args.px, limit: args.n, ..Open::default() })?.data;
    let shape = data.shape();
    let each: usize = shape.iter().product();
    let n = usize::try_from(data.len())?;
    let mut values = vec![0.0; n * each];
    let mut row = vec![0.0; data.factors().len()];
    let mut factors: Vec<(String, Vec<f64>)> = data.factors().iter().map(|f| (f.clone(), Vec::new())).collect();
    let mut bar = Steps::new("reading");
    for (x, i) in values.chunks_mut(each.max(1)).zip(0..) {
        data.item(i, x, &mut row)?;
        factors.iter_mut().zip(&row).for_each(|((_, column), v)| column.push(f64::from(*v)));
        bar.at("reading", i + 1, data.len());
    }
    drop(bar);
    let [c, h, w] = shape;
    let size = format!("{w}x{h}, {}", if c == 1 { "grey" } else { "colour" });
    let resize = if args.px == 0 { format!("none: {size}") } else { format!("cropped and averaged to {size}") };
    let (pictures, name, n, items) = (Pictures::new(shape, values)?, name.to_owned(), Some(n), None);
    match &args.extractor {
        Some(extractor) if !args.metric.compares_pictures() => {
            let (found, extractor) = extract::features(extractor, args.extractor_input, &args.device, &pictures)?;
            Ok(Side { name, items, factors, n, extractor, resize, what: What::Features(found) })
        }
        _ => Ok(Side { name, items, factors, n, extractor: PIXELS.into(), resize, what: What::Pictures(pictures) }),
    }
}

/// Refuses what would give a number without a meaning.
fn comparable(a: &Side, b: &Side, args: &Args) -> anyhow::Result<()> {
    let metric = args.metric.name();
    if let (What::Pictures(x), What::Pictures(y)) = (&a.what, &b.what)
        && x.shape() != y.shape()
    {
        let ([c, h, w], [cb, hb, wb]) = (x.shape(), y.shape());
        ensure!(c == cb, "{} has {c} channels and {} has {cb}; bring both to grey or to colour", a.name, b.name);
        bail!("{} is {w}x{h} and {} is {wb}x{hb}; bring both to one size with --px", a.name, b.name);
    }
    if let Some(other) = [a, b].iter().find(|s| args.metric.compares_pictures() && s.extractor != PIXELS) {
        bail!("{metric}: compares pictures, and {} holds none; name a folder or an .npz batch", other.name);
    }
    if let Some(other) = [a, b].iter().find(|s| args.metric != Metric::Frechet && s.extractor == GIVEN) {
        bail!("{metric}: needs the items, and {} holds statistics only; give pictures or features", other.name);
    }
    let known = a.extractor != GIVEN && b.extractor != GIVEN;
    ensure!(
        !known || a.extractor == b.extractor || args.force,
        "features of different extractors: {} is {}, {} is {}; encode both with the same, or give --force",
        a.name,
        a.extractor,
        b.name,
        b.extractor
    );
    let (wa, wb) = (a.width(), b.width());
    ensure!(wa == wb, "{} is {wa} wide and {} is {wb}; encode both with the same extractor", a.name, b.name);
    if args.metric.compares_pictures() {
        ensure!(
            a.n == b.n,
            "{metric}: compares picture by picture, and {} has {} and {} has {}; give as many of both, for instance with -n",
            a.name,
            a.count(),
            b.name,
            b.count()
        );
    }
    if let Some(few) =
        [a, b].into_iter().find(|s| args.metric == Metric::Kid && s.n.is_some_and(|n| n < args.subset_size))
    {
        let (n, size) = (few.count(), args.subset_size);
        bail!("{metric}: {} has {n} items and a subset {size}; give a smaller --subset-size, or more items", few.name);
    }
    if args.metric == Metric::Frechet && !args.force {
        if let Some(few) = [a, b].into_iter().find(|s| s.n.is_some_and(|n| n < FEWEST)) {
            bail!(
                "{metric}: {} items in {}, fewer than {FEWEST}, say more of N than of the sets; use kid, or give --force",
                few.count(),
                few.name
            );
        }
        ensure!(
            a.n.is_none() || b.n.is_none() || a.n == b.n,
            "{metric}: the estimate depends on N, and {} has {} items and {} has {}; take as many of both with -n, or give --force",
            a.name,
            a.count(),
            b.name,
            b.count()
        );
    }
    Ok(())
}

fn two_sided(a: &Side, b: &Side, args: &Args) -> anyhow::Result<Vec<Measured>> {
    if args.metric == Metric::Frechet {
        let d = measure::frechet(&a.gaussian()?, &b.gaussian()?)?;
        let note = if d.singular { "N is not above the width: a singular covariance" } else { "" };
        return Ok(vec![
            Measured::plain("frechet", d.value, note),
            Measured::plain("  means", d.means, "|m1 - m2|^2"),
            Measured::plain("  covariances", d.covariances, "tr(S1 + S2 - 2 (S1 S2)^1/2)"),
        ]);
    }
    if let (What::Pictures(x), What::Pictures(y), true) = (&a.what, &b.what, args.metric.compares_pictures()) {
        return pairs(x, y, args);
    }
    let (x, y) = (a.features()?, b.features()?);
    let near = |name, d: measure::Discrepancy, note: &str| {
        let half = NORMAL * d.standard_error;
        Measured { name, value: d.unbiased, interval: Some([d.unbiased - half, d.unbiased + half]), note: note.into() }
    };
    let share = |name, value: f64, n: usize, given: &str| {
        let p = Proportion::wilson(hits(value, n), n)?;
        Ok::<_, measure::Error>(Measured {
            name,
            value,
            interval: Some([p.low, p.high]),
            note: format!("95 %, {given}"),
        })
    };
    Ok(match args.metric {
        Metric::Kid => {
            let config = measure::KidConfig { subset_size: args.subset_size, seed: args.seed, ..Default::default() };
            let kid = measure::kid(&x, &y, &config)?;
            let note = format!("sd {:.6} over {} subsets of {}", kid.sd, kid.subsets, kid.subset_size);
            vec![Measured::plain("kid", kid.value, &note)]
        }
        Metric::PrecisionRecall => {
            let k = args.k.unwrap_or(3);
            let got = measure::precision_recall(&y, &x, k)?;
            vec![
                share("precision", got.precision, x.n(), &format!("B given, k = {k}"))?,
                share("recall", got.recall, y.n(), &format!("A given, k = {k}"))?,
            ]
        }
        Metric::DensityCoverage => {
            let k = args.k.unwrap_or(5);
            let got = measure::density_coverage(&y, &x, k)?;
            let density = Measured::plain("density", got.density, &format!("k = {k}"));
            vec![density, share("coverage", got.coverage, y.n(), &format!("A given, k = {k}"))?]
        }
        Metric::SlicedWasserstein => {
            let (projections, seed) = (args.projections, args.seed);
            let config = measure::SlicedConfig { projections, seed, ..Default::default() };
            let got = measure::sliced_wasserstein(&x, &y, &config)?;
            let half = NORMAL * got.standard_error;
            let interval = Some([got.value - half, got.value + half]);
            let note = format!("95 %, over {projections} directions");
            vec![Measured { name: "sliced-wasserstein", value: got.value, interval, note }]
        }
        Metric::Mmd => {
            let bandwidth = args.bandwidth.map_or(measure::Bandwidth::Median, measure::Bandwidth::Given);
            let (got, s) = measure::gaussian_mmd(&x, &y, bandwidth)?;
            vec![near("mmd", got, &format!("95 %, bandwidth {s:.6}"))]
        }
        _ => vec![near("energy", measure::energy(&x, &y)?, "95 %")],
    })
}

/// The count behind a share of `n` items, which the product is but for rounding.
#[expect(clippy::cast_possible_truncation, reason = "a whole number from 0 to n")]
fn hits(share: f64, n: usize) -> usize {
    (share * n as f64).round() as usize
}

/// Writes mean and covariance.
fn keep(a: &Side, args: &Args) -> anyhow::Result<Vec<Measured>> {
    let Some(out) = &args.out else { bail!("statistics: name a file with --out") };
    let gaussian = a.gaussian()?;
    let pool = Moments { mean: gaussian.mean().to_vec(), covariance: gaussian.covariance() };
    Reference { pool, spatial: None }.write(out, None)?;
    Ok(vec![Measured::plain("width", a.width() as f64, &format!("mu and sigma in {}", out.display()))])
}

/// Means over pairs of pictures with values from -1 to 1.
fn pairs(x: &Pictures, y: &Pictures, args: &Args) -> anyhow::Result<Vec<Measured>> {
    const RANGE: f64 = 2.0;
    let window = match args.window {
        Window::Gaussian => measure::Window::Gaussian,
        Window::Uniform => measure::Window::Uniform,
    };
    let (name, values) = match (args.metric, &args.extractor) {
        (Metric::Lpips, Some(network)) => {
            let weights = args.weights.as_deref();
            ("lpips", extract::perceptual(network, args.extractor_input, &args.device, weights, [x, y])?)
        }
        (Metric::Psnr, _) => ("psnr", measure::psnr(x, y, RANGE)?),
        (Metric::Ssim, _) => ("ssim", measure::ssim(x, y, RANGE, window)?),
        _ => ("ms-ssim", measure::ms_ssim(x, y, RANGE)?),
    };
    let mean = |items: &mut dyn Iterator<Item = f64>| items.sum::<f64>() / values.len() as f64;
    let value = mean(&mut values.iter().copied());
    let equal = values.iter().filter(|v| v.is_infinite()).count();
    if equal > 0 {
        let note = format!("{equal} of {} pairs are equal, where it is infinite", values.len());
        return Ok(vec![Measured::plain(name, value, &note)]);
    }
    let bootstrap = Bootstrap { seed: args.seed, ..Default::default() };
    let drawn = bootstrap.interval(values.len(), &|items| mean(&mut items.iter().map(|&i| values[i])))?;
    let note = format!("95 %, mean of {} pairs, bootstrap", values.len());
    Ok(vec![Measured { name, value, interval: Some([drawn.low, drawn.high]), note }])
}

fn inception(a: &Side, args: &Args) -> anyhow::Result<Vec<Measured>> {
    let What::Features(outputs) = &a.what else {
        bail!("inception: needs a classifier's outputs, and {} is {}; give a table of logits", a.name, a.extractor);
    };
    let kind = if args.probabilities { measure::Outputs::Probabilities } else { measure::Outputs::Logits };
    let config = measure::InceptionConfig { outputs: kind, splits: args.splits, shuffle: Some(args.seed) };
    let got = measure::inception_score(outputs, &config)?;
    let note = format!("sd {:.6} over {} splits, {} classes", got.sd, got.splits, outputs.d());
    Ok(vec![Measured::plain("inception", got.value, &note)])
}

impl Side {
    fn width(&self) -> usize {
        match &self.what {
            What::Features(x) => x.d(),
            What::Statistics(g) => g.mean().len(),
            What::Pictures(p) => p.shape().iter().product(),
        }
    }

    fn count(&self) -> String {
        self.n.map_or(NOT_STATED.to_owned(), |n| n.to_string())
    }

    pub fn features(&self) -> anyhow::Result<Features> {
        match &self.what {
            What::Features(x) => Ok(x.clone()),
            What::Pictures(p) => Ok(Features::new(self.width(), p.values().to_vec())?),
            What::Statistics(_) => bail!("{}: holds statistics only; give pictures or features", self.name),
        }
    }

    fn gaussian(&self) -> anyhow::Result<Gaussian> {
        match &self.what {
            What::Statistics(g) => Ok(g.clone()),
            _ => Ok(Gaussian::of(&self.features()?)?),
        }
    }

    fn line(&self, letter: &str) -> String {
        let (n, width) = (self.count(), self.width());
        format!("{letter}  {}  N {n}, {width} wide; extractor {}; resize {}", self.name, self.extractor, self.resize)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "n": self.n, "width": self.width(), "extractor": self.extractor, "resize": self.resize
        })
    }
}

impl Measured {
    pub fn plain(name: &'static str, value: f64, note: &str) -> Self {
        Self { name, value, interval: None, note: note.to_owned() }
    }

    fn line(&self) -> String {
        let interval = self.interval.map(|[low, high]| format!(" [{low:.6}, {high:.6}]")).unwrap_or_default();
        let note = if self.note.is_empty() { String::new() } else { format!("  {}", self.note) };
        format!("{:<14} {:.6}{interval}{note}", self.name, self.value)
    }

    fn json(&self) -> Value {
        json!({"value": self.value, "interval": self.interval, "note": self.note})
    }
}

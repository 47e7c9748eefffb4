use crate::{Error, Model, plan};
use pentimento_core::{Condition, Level, NO_LABEL, Network, Noise, Stream, choose};
use pentimento_data::{Dataset, Loader, LoaderConfig, Open};
use pentimento_measure::{Features, Pictures};
use std::collections::BTreeMap;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// How an activation becomes a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Mean over places.
    Mean,
    /// Means over the cells of a g x g grid: keeps where things are.
    Grid(i64),
    /// Every place.
    Flat,
}

impl std::str::FromStr for Pool {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "mean" => Ok(Self::Mean),
            "flat" => Ok(Self::Flat),
            _ => match s.strip_prefix("grid").map(str::parse) {
                Some(Ok(g)) if (1..=64).contains(&g) => Ok(Self::Grid(g)),
                _ => Err(Error::Value {
                    key: "--pool",
                    got: s.into(),
                    want: format!("{}; any grid<n> up to 64", choose(s, &["mean", "grid2", "grid4", "flat"])),
                }),
            },
        }
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Mean => f.write_str("mean"),
            Self::Flat => f.write_str("flat"),
            Self::Grid(g) => write!(f, "grid{g}"),
        }
    }
}

/// What to read and where.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Blocks by name; empty = all.
    pub blocks: Vec<String>,
    /// Times in [0, 1] at which the data is noised before it is shown.
    pub levels: Vec<f64>,
    /// How an activation becomes a vector.
    pub pool: Pool,
    /// Items read, the first n; 0 = all.
    pub items: u64,
    /// Seed of the noise.
    pub seed: u64,
}

/// Features of the same items at several places.
#[derive(Debug, Default)]
pub struct Readings {
    /// (block, level) to `[N, D]` row-major with its width.
    pub features: BTreeMap<(String, String), (usize, Vec<f32>)>,
    /// `[N, C H W]` of the data itself.
    pub pixels: (usize, Vec<f32>),
    /// Class of each item; empty where the data has none.
    pub labels: Vec<i64>,
    /// Factors by name, each `[N]`.
    pub factors: Vec<(String, Vec<f32>)>,
    /// Number of each item in the data.
    pub index: Vec<u64>,
}

/// Reads the activations of a model on a data set, without labels, one pass over the data per level.
///
/// # Errors
/// A block that is not there, a level outside [0, 1], data of another shape.
pub fn encode(
    model: &Model,
    data: &Arc<dyn Dataset>,
    options: &ReadOptions,
    observe: &mut dyn FnMut(u64, u64),
) -> Result<Readings, Error> {
    let known = model.denoiser().network().blocks();
    if let Some(missing) = options.blocks.iter().find(|b| !known.contains(b)) {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(Error::Value { key: "--block", got: missing.clone(), want: choose(missing, &names) });
    }
    if let Some(t) = options.levels.iter().find(|t| !(0.0..=1.0).contains(*t)) {
        return Err(Error::Value { key: "--level", got: t.to_string(), want: "must lie in [0, 1]; 0 is clean".into() });
    }
    check_shape(data, model.signature.input)?;
    let wanted: Vec<String> = if options.blocks.is_empty() { known } else { options.blocks.clone() };
    let ask = Ask { device: model.device(), items: options.items, seed: options.seed };
    read_items(data, &ask, observe, &mut |x, noise, keep| {
        for &t in &options.levels {
            let level = model.denoiser().path().level(t);
            let xt =
                if t > 0.0 { level.mix(x, &noise.normal_like(x, Stream::Read)) } else { level.mix(x, &x.zeros_like()) };
            read_level(model, &xt, &level, &wanted, options.pool, &mut |block, v| keep(block, &format!("{t}"), v));
        }
        Ok(())
    })
}

/// Refuses data of another shape than a model reads.
pub(crate) fn check_shape(data: &Arc<dyn Dataset>, input: [i64; 3]) -> Result<(), Error> {
    let shape = data.shape().map(|n| i64::try_from(n).unwrap_or(0));
    if shape == input {
        return Ok(());
    }
    let want = format!("the model reads {input:?}; give --px or another data set");
    Err(Error::Value { key: "DATA", got: format!("{shape:?}"), want })
}

/// Which items are read, and where.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Where batches go.
    pub device: Device,
    /// The first n; 0 = all.
    pub items: u64,
    /// Of the noise.
    pub seed: u64,
}

/// Takes features by the names of their place, `[B, D]`.
pub(crate) type Keep<'a> = dyn FnMut(&str, &str, &Tensor) + 'a;

/// One pass over the data in order, without gradients; `look` gives the features of a batch.
pub(crate) fn read_items(
    data: &Arc<dyn Dataset>,
    ask: &Ask,
    observe: &mut dyn FnMut(u64, u64),
    look: &mut dyn FnMut(&Tensor, &Noise, &mut Keep) -> Result<(), Error>,
) -> Result<Readings, Error> {
    let n = if ask.items == 0 { data.len() } else { ask.items.min(data.len()) };
    let batch = usize::try_from(n.min(128)).unwrap_or(1);
    let config = LoaderConfig { batch, seed: 0, workers: 1, shuffle: false, augment: Default::default() };
    let mut loader = Loader::new(data.clone(), config, None, 0)?;
    let mut out =
        Readings { factors: data.factors().iter().map(|f| (f.clone(), Vec::new())).collect(), ..Readings::default() };
    let _guard = tch::no_grad_guard();
    let mut done = 0;
    while done < n {
        let host = loader.next()?;
        let take = usize::try_from((n - done).min(batch as u64)).unwrap_or(batch);
        let x = host.upload(ask.device).slice(0, take).x;
        let noise = Noise::new(ask.seed, host.index[..take].to_vec());
        look(&x, &noise, &mut |block, level, v| {
            let width = usize::try_from(v.size()[1]).unwrap_or(0);
            let slot = out.features.entry((block.to_owned(), level.to_owned())).or_insert((width, Vec::new()));
            slot.1.extend(to_host(v));
        })?;
        out.pixels.1.extend(to_host(&x.flatten(1, -1)));
        out.index.extend(&host.index[..take]);
        out.labels.extend(host.y.iter().take(take));
        for (f, (_, column)) in out.factors.iter_mut().enumerate() {
            column.extend(host.factors.chunks(host.n_factors).take(take).map(|row| row[f]));
        }
        done += take as u64;
        observe(done, n);
    }
    out.pixels.0 = data.shape().iter().product();
    if out.labels.iter().all(|&y| y == NO_LABEL) {
        out.labels.clear();
    }
    Ok(out)
}

/// Pictures held in memory, in batches, without gradients; `see` is given each batch with the noise of its pictures' numbers.
///
/// # Errors
/// What `see` meets.
pub(crate) fn in_batches(
    pictures: &Pictures,
    device: Device,
    observe: &mut dyn FnMut(u64, u64),
    see: &mut dyn FnMut(&Tensor, &Noise) -> Result<(), Error>,
) -> Result<(), Error> {
    /// Memory only.
    const TOGETHER: usize = 64;
    let _guard = tch::no_grad_guard();
    let size = pictures.shape().map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    let each: usize = pictures.shape().iter().product();
    let mut done = 0;
    for values in pictures.values().chunks(TOGETHER * each.max(1)) {
        let x = Tensor::from_slice(values).view([-1, size[0], size[1], size[2]]).to_device(device);
        let rows = x.size()[0].unsigned_abs();
        see(&x, &Noise::new(0, (done..done + rows).collect()))?;
        done += rows;
        observe(done, pictures.n() as u64);
    }
    Ok(())
}

/// Features of pictures held in memory, by whatever looks at a batch `[B, C, H, W]` and gives `[B, D]`.
///
/// # Errors
/// What `look` meets, features that are not finite.
pub fn features_of(
    pictures: &Pictures,
    device: Device,
    observe: &mut dyn FnMut(u64, u64),
    look: &mut dyn FnMut(&Tensor, &Noise) -> Result<Tensor, Error>,
) -> Result<Features, Error> {
    let (mut width, mut values) = (0, Vec::new());
    in_batches(pictures, device, observe, &mut |x, noise| {
        let found = look(x, noise)?;
        width = found.numel().checked_div(usize::try_from(x.size()[0]).unwrap_or(1)).unwrap_or(0);
        values.extend(to_host(&found));
        Ok(())
    })?;
    Ok(Features::new(width, values)?)
}

pub(crate) fn to_host(t: &Tensor) -> Vec<f32> {
    let t = t.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut v = vec![0.0; t.numel()];
    t.copy_data(&mut v, t.numel());
    v
}

fn read_level(
    model: &Model,
    xt: &Tensor,
    level: &Level,
    wanted: &[String],
    pool: Pool,
    keep: &mut dyn FnMut(&str, &Tensor),
) {
    let (x, t) = model.denoiser().input(xt, level);
    let network: &dyn Network = model.denoiser().network();
    let _ = network.forward_with(&x, &t, &Condition::none(), &mut |name, h| {
        if wanted.iter().any(|w| w == name) {
            keep(name, &pooled(h, pool, model.signature.input));
        }
    });
}

/// `[B, C, H, W]` or `[B, T, D]` as `[B, F]`.
fn pooled(h: &Tensor, pool: Pool, [_, height, width]: [i64; 3]) -> Tensor {
    let h = if h.dim() == 3 {
        // Tokens in row order of a picture with the input's proportions.
        let (t, d) = (h.size()[1], h.size()[2]);
        let rows = (1..=t).find(|r| t % r == 0 && r * r * width >= t * height).unwrap_or(1);
        h.transpose(1, 2).reshape([-1, d, rows, t.div_euclid(rows)])
    } else {
        h.shallow_clone()
    };
    match pool {
        Pool::Mean => h.mean_dim(&[2_i64, 3][..], false, Kind::Float),
        Pool::Flat => h.flatten(1, -1),
        Pool::Grid(g) => {
            h.to_kind(Kind::Float).adaptive_avg_pool2d([g.min(h.size()[2]), g.min(h.size()[3])]).flatten(1, -1)
        }
    }
}

/// A data set by name or path, fitted to what a model reads.
///
/// # Errors
/// As `pentimento_data::open`.
pub fn open_for(model: &Model, name: &str, px: usize) -> Result<Arc<dyn Dataset>, Error> {
    open_fitted(plan::open_options(&model.recipe), model.signature.input, name, px)
}

/// A data set by name or path, its pictures fitted to an edge, or to the one that a model of square pictures reads.
///
/// # Errors
/// As `pentimento_data::open`.
pub fn open_fitted(options: Open, input: [i64; 3], name: &str, px: usize) -> Result<Arc<dyn Dataset>, Error> {
    let [_, h, w] = input;
    let own = if h == w { usize::try_from(h).unwrap_or(0) } else { 0 };
    // How much of its data a run learned from is no limit of what can be read.
    let options = Open { px: if px > 0 { px } else { own }, limit: 0, ..options };
    Ok(pentimento_data::open(name, &options)?.data)
}

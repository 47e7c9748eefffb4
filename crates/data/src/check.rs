//! Reads a data set through and says what is in it: counts, labels, ranges, what is wrong, and a grid to look at.

use crate::{Dataset, Error};
use pentimento_core::NO_LABEL;
use pentimento_io::{Array, Values, png_out};
use rayon::prelude::*;

/// What [`check`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Items in the data set.
    pub items: u64,
    /// Items read: all, or as many as the limit allows, evenly spaced.
    pub read: u64,
    /// `[C, H, W]`
    pub shape: [usize; 3],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Good items per class.
    pub histogram: Vec<u64>,
    /// Good items without a label.
    pub unlabelled: u64,
    /// Smallest and largest value over all good items; 0 and 0 when there are none.
    pub range: [f32; 2],
    /// Mean over all values of good items.
    pub mean: f64,
    /// Standard deviation over all values of good items.
    pub std: f64,
    /// Name, smallest and largest value of every factor.
    pub factors: Vec<(String, [f32; 2])>,
    /// Numbers of the items that cannot be used, ascending, each with a sentence.
    pub bad: Vec<(u64, String)>,
    /// `[H, W, C]` bytes: up to 64 evenly spaced items, eight in a row, bad ones mid-grey; None for an empty set. Pictures
    /// that are neither grey nor coloured show their first channel.
    pub grid: Option<Array>,
}

impl Report {
    /// Items that can be used.
    pub fn good(&self) -> u64 {
        self.read - self.bad.len() as u64
    }
}

/// What part of the items amounts to.
#[derive(Clone, Debug)]
struct Tally {
    histogram: Vec<u64>,
    unlabelled: u64,
    range: [f32; 2],
    sum: f64,
    squares: f64,
    factors: Vec<[f32; 2]>,
    bad: Vec<(u64, String)>,
}

const NOTHING: [f32; 2] = [f32::INFINITY, f32::NEG_INFINITY];
const THREADS: usize = 2;
/// Items that one thread reads at a stretch.
const STRETCH: u64 = 32;
/// Items between two reports of progress.
const BLOCK: u64 = 32 * STRETCH;
const PICTURES: u64 = 64;

fn widen(range: &mut [f32; 2], v: f32) {
    *range = [range[0].min(v), range[1].max(v)];
}

fn joined(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [a[0].min(b[0]), a[1].max(b[1])]
}

impl Tally {
    fn new(data: &dyn Dataset) -> Self {
        Self {
            histogram: vec![0; data.classes().len()],
            unlabelled: 0,
            range: NOTHING,
            sum: 0.0,
            squares: 0.0,
            factors: vec![NOTHING; data.factors().len()],
            bad: Vec::new(),
        }
    }

    fn add(&mut self, i: u64, item: Result<i64, String>, x: &[f32], factors: &[f32]) {
        let class = match item {
            Ok(class) => class,
            Err(why) => return self.bad.push((i, why)),
        };
        match usize::try_from(class).ok().and_then(|c| self.histogram.get_mut(c)) {
            Some(count) => *count += 1,
            None => self.unlabelled += 1,
        }
        for &v in x {
            widen(&mut self.range, v);
            self.sum += f64::from(v);
            self.squares += f64::from(v) * f64::from(v);
        }
        self.factors.iter_mut().zip(factors).for_each(|(range, &v)| widen(range, v));
    }

    /// Both together; the order of the sums is that of the items, whatever the threads did.
    fn and(mut self, other: Self) -> Self {
        self.histogram.iter_mut().zip(other.histogram).for_each(|(a, b)| *a += b);
        self.unlabelled += other.unlabelled;
        self.range = joined(self.range, other.range);
        self.sum += other.sum;
        self.squares += other.squares;
        self.factors.iter_mut().zip(other.factors).for_each(|(a, b)| *a = joined(*a, b));
        self.bad.extend(other.bad);
        self
    }
}

/// Reads all items, or `limit` evenly spaced ones, on two threads. `progress` gets the number of items read and to read.
///
/// # Errors
/// When no threads can be had; items that cannot be used are in the report.
pub fn check(data: &dyn Dataset, limit: Option<u64>, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, Error> {
    let items = data.len();
    let n = limit.map_or(items, |l| l.min(items));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build();
    let pool = pool.map_err(|e| Error::Thread { why: e.to_string() })?;
    let mut tally = Tally::new(data);
    for from in (0..n).step_by(usize::try_from(BLOCK).unwrap_or(1)) {
        let to = n.min(from + BLOCK);
        let parts: Vec<Tally> = pool.install(|| {
            let starts: Vec<u64> = (from..to).step_by(usize::try_from(STRETCH).unwrap_or(1)).collect();
            starts.into_par_iter().map(|start| stretch(data, start..to.min(start + STRETCH), n)).collect()
        });
        tally = parts.into_iter().fold(tally, Tally::and);
        progress(to, n);
    }
    let good = n - tally.bad.len() as u64;
    let values = (good * data.shape().iter().product::<usize>() as u64).max(1) as f64;
    let mean = tally.sum / values;
    let known = |range: [f32; 2]| if range[0] <= range[1] { range } else { [0.0; 2] };
    Ok(Report {
        items,
        read: n,
        shape: data.shape(),
        classes: data.classes().to_vec(),
        histogram: tally.histogram,
        unlabelled: tally.unlabelled,
        range: known(tally.range),
        mean,
        std: (tally.squares / values - mean * mean).max(0.0).sqrt(),
        factors: data.factors().iter().cloned().zip(tally.factors.into_iter().map(known)).collect(),
        bad: tally.bad,
        grid: grid(data),
    })
}

fn stretch(data: &dyn Dataset, places: std::ops::Range<u64>, n: u64) -> Tally {
    let mut tally = Tally::new(data);
    let (mut x, mut factors) = (vec![0.0; data.shape().iter().product()], vec![0.0; data.factors().len()]);
    for place in places {
        let i = spaced(place, n, data.len());
        let item = read(data, i, &mut x, &mut factors);
        tally.add(i, item, &x, &factors);
    }
    tally
}

/// The item at a place when n of all are spread evenly.
fn spaced(place: u64, n: u64, all: u64) -> u64 {
    let i = (u128::from(place) * u128::from(all)).div_euclid(u128::from(n.max(1)));
    u64::try_from(i).unwrap_or(u64::MAX)
}

/// The item's label, or why the item cannot be used.
fn read(data: &dyn Dataset, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, String> {
    let class = data.item(i, x, factors).map_err(|e| e.to_string())?;
    let classes = data.classes().len();
    if class != NO_LABEL && usize::try_from(class).map_or(true, |c| c >= classes) {
        return Err(format!("item {i}: label {class} is not in 0..{classes}; correct the labels"));
    }
    // Half a step of a byte beyond the ends is rounding, more is a wrong scale.
    if let Some(p) = x.iter().position(|v| !v.is_finite() || v.abs() > 1.0 + 1.0 / 256.0) {
        return Err(format!("item {i}: value {} at place {p} is not in [-1, 1]", x[p]));
    }
    match factors.iter().position(|v| !v.is_finite()) {
        Some(f) => Err(format!("item {i}: factor {} is {}, which is no finite number", data.factors()[f], factors[f])),
        None => Ok(class),
    }
}

fn grid(data: &dyn Dataset) -> Option<Array> {
    let [c, h, w] = data.shape();
    let shown = PICTURES.min(data.len());
    if shown == 0 || c * h * w == 0 {
        return None;
    }
    let channels = if c == 3 { 3 } else { 1 };
    let (mut x, mut factors) = (vec![0.0; c * h * w], vec![0.0; data.factors().len()]);
    let picture = |place| {
        if read(data, spaced(place, shown, data.len()), &mut x, &mut factors).is_err() {
            x.fill(0.0);
        }
        let bytes = (0..h * w).flat_map(|p| (0..channels).map(move |k| k * h * w + p)).map(|at| byte(x[at]));
        Array::new(vec![h, w, channels], Values::U8(bytes.collect()))
    };
    Some(png_out::grid(&(0..shown).map(picture).collect::<Vec<_>>(), 8))
}

/// [-1, 1] to 0..=255, to the nearest.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte")]
fn byte(v: f32) -> u8 {
    ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::{Scenes, ScenesConfig};

    /// 2 x 2 grey items of value i / 5000; every thousandth is wrong in its own way.
    struct Ramp {
        n: u64,
        names: [Vec<String>; 2],
    }

    fn ramp(n: u64) -> Ramp {
        Ramp { n, names: [vec!["even".into(), "odd".into()], vec!["i".into()]] }
    }

    impl Dataset for Ramp {
        fn len(&self) -> u64 {
            self.n
        }
        fn shape(&self) -> [usize; 3] {
            [1, 2, 2]
        }
        fn classes(&self) -> &[String] {
            &self.names[0]
        }
        fn factors(&self) -> &[String] {
            &self.names[1]
        }
        fn item(&self, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, Error> {
            x.fill(i as f32 / 5000.0);
            factors[0] = i as f32;
            match i {
                1000 => x[3] = f32::NAN,
                2000 => factors[0] = f32::INFINITY,
                3000 => return Ok(7),
                4000 => return Err(Error::bad("ramp", "item 4000 is broken")),
                4001 => return Ok(NO_LABEL),
                4002 => x[1] = 1.5,
                _ => {}
            }
            Ok((i % 2) as i64)
        }
        fn fingerprint(&self) -> String {
            "ramp".into()
        }
    }

    #[test]
    fn everything_is_counted_and_what_is_wrong_is_said() {
        let mut steps = Vec::new();
        let r = check(&ramp(5000), None, &mut |done, of| steps.push((done, of))).unwrap();
        assert_eq!((r.items, r.read, r.good()), (5000, 5000, 4995));
        assert_eq!((r.histogram.as_slice(), r.unlabelled), ([2495, 2499].as_slice(), 1));
        let numbers: Vec<u64> = r.bad.iter().map(|(i, _)| *i).collect();
        assert_eq!(numbers, [1000, 2000, 3000, 4000, 4002]);
        let words =
            ["value NaN at place 3", "factor i is inf", "label 7 is not in 0..2", "is broken", "value 1.5 at place 1"];
        assert!(r.bad.iter().zip(words).all(|((_, said), w)| said.contains(w)), "{:?}", r.bad);
        assert!(r.range[0].abs() < 1e-9 && (r.range[1] - 4999.0 / 5000.0).abs() < 1e-9, "{:?}", r.range);
        assert_eq!(r.factors, [("i".to_owned(), [0.0, 4999.0])]);
        let good: Vec<f64> = (0..5000).filter(|i| !numbers.contains(i)).map(|i| i as f64 / 5000.0).collect();
        let mean = good.iter().sum::<f64>() / 4995.0;
        let std = (good.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4995.0).sqrt();
        assert!((r.mean - mean).abs() < 1e-6 && (r.std - std).abs() < 1e-6, "{} {mean} {} {std}", r.mean, r.std);
        assert_eq!(steps, [(1024, 5000), (2048, 5000), (3072, 5000), (4096, 5000), (5000, 5000)]);
        assert_eq!(r.grid.unwrap().shape(), [8 * 4 - 2, 8 * 4 - 2, 1]);
    }

    #[test]
    fn a_limit_spreads_evenly_and_an_empty_set_is_no_trouble() {
        let r = check(&ramp(5000), Some(10), &mut |_, _| {}).unwrap();
        assert_eq!((r.read, r.good(), r.factors[0].1), (10, 6, [0.0, 4500.0]));
        let r = check(&ramp(0), None, &mut |_, _| {}).unwrap();
        assert_eq!((r.read, r.range, r.grid.is_none(), r.histogram.as_slice()), (0, [0.0; 2], true, [0, 0].as_slice()));
    }

    #[test]
    fn a_world_is_whole_and_its_grid_shows_its_items() {
        let world = Scenes::new(ScenesConfig { items: 200, ..Default::default() }).unwrap();
        let r = check(&world, None, &mut |_, _| {}).unwrap();
        assert!(r.bad.is_empty() && r.histogram.iter().sum::<u64>() == 200 && r.unlabelled == 0);
        assert!(r.std > 0.1 && r.range[0] >= -1.0 && r.range[1] <= 1.0);
        let grid = r.grid.unwrap();
        assert_eq!(grid.shape(), [8 * 34 - 2, 8 * 34 - 2, 3]);
        // The tenth picture is item 9 x 200 / 64 = 28, in row 1, column 1.
        let (mut x, mut f) = (vec![0.0; 3072], [0.0; 6]);
        world.item(28, &mut x, &mut f).unwrap();
        let Values::U8(bytes) = grid.values() else { panic!("bytes") };
        for (p, k) in [(0, 0), (500, 1), (1023, 2)] {
            let (row, column) = (34 + usize::div_euclid(p, 32), 34 + p % 32);
            assert_eq!(bytes[(row * 270 + column) * 3 + k], byte(x[k * 1024 + p]));
        }
    }
}

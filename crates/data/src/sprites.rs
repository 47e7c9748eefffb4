//! A procedural world of one coloured shape on a plain ground, after dSprites: its factors are exact, its items need no
//! file, and there are as many as you like.
//!
//! Two ways to number the items: [`Mode::Random`] draws every factor from its range by (seed, number); [`Mode::Grid`]
//! enumerates all combinations in lexicographic order (shape, colour, scale, rotation, x, y), the last running fastest.

pub use crate::shape::Shape;
use crate::shape::{each_covered, palette, single};
use crate::{Dataset, Error};
use pentimento_core::{Draws, Stream};
use serde::{Deserialize, Serialize};

/// How items are numbered.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Every factor drawn from its range.
    Random,
    /// All combinations of `steps` values per factor.
    Grid,
}

/// Largest distance of an outline from its centre, in half-edges: the triangle's tip.
const REACH: f64 = 1.76;

/// Factors of an item, a column each.
const NAMES: [&str; 6] = ["shape", "colour", "scale", "rotation", "x", "y"];

/// Column of the scale among the factors.
pub const SCALE: i64 = 2;

/// Column of x among the factors, the first of the centre's two.
pub const CENTRE: i64 = 4;

/// Settings of the world.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct SpritesConfig {
    /// Edge of the picture.
    pub px: usize,
    /// Outlines.
    pub shapes: Vec<Shape>,
    /// Colours by name; empty = grey pictures, white on the ground.
    pub colours: Vec<String>,
    /// Brightness of the ground, 0 to 1.
    pub ground: f64,
    /// Half the edge of a square of the same area, as a share of the picture's edge: smallest and largest.
    pub scale: [f64; 2],
    /// Rotations that are told apart, equally spaced over a full turn; 1 = upright.
    pub rotations: u32,
    /// Numbering.
    pub mode: Mode,
    /// Values per factor in grid mode: scale, x, y.
    pub steps: [u32; 3],
    /// Number of items in random mode.
    pub items: u64,
    /// Seed of the world in random mode.
    pub seed: u64,
}

impl Default for SpritesConfig {
    fn default() -> Self {
        Self {
            px: 32,
            shapes: vec![Shape::Square, Shape::Disc, Shape::Triangle],
            colours: ["red", "green", "blue", "yellow", "magenta", "cyan"].map(String::from).into(),
            ground: 0.2,
            scale: [0.12, 0.22],
            rotations: 16,
            mode: Mode::Random,
            steps: [6, 16, 16],
            items: 1_000_000,
            seed: 0,
        }
    }
}

/// One item: what is to be seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// Number of the outline.
    pub shape: usize,
    /// Number of the colour.
    pub colour: usize,
    /// Half the edge of a square of the same area, as a share of the picture's edge.
    pub scale: f64,
    /// Angle in turns, in [0, 1).
    pub rotation: f64,
    /// Centre from the left, as a share of the edge.
    pub x: f64,
    /// Centre from the top, as a share of the edge.
    pub y: f64,
}

/// The world as a data set; class = outline x colour.
#[derive(Debug)]
pub struct Sprites {
    config: SpritesConfig,
    colours: Vec<[f64; 3]>,
    classes: Vec<String>,
    names: Vec<String>,
}

impl Sprites {
    /// Checks the settings.
    ///
    /// # Errors
    /// One sentence on the first that is out of its range.
    pub fn new(config: SpritesConfig) -> Result<Self, Error> {
        let need = |ok: bool, key: &str, want: &str| {
            if ok { Ok(()) } else { Err(Error::bad(format!("data.sprites.{key}"), want)) }
        };
        need((8..=512).contains(&config.px), "px", "must lie in 8..=512")?;
        need(!config.shapes.is_empty(), "shapes", "must name at least one of square, disc, triangle, cross, ring")?;
        let [lo, hi] = config.scale;
        // At 0.27 the farthest outline fills the picture.
        need(0.0 < lo && lo <= hi && hi <= 0.27, "scale", "must be two rising numbers in (0, 0.27]")?;
        need((0.0..=1.0).contains(&config.ground), "ground", "must lie in [0, 1]")?;
        need((1..=3600).contains(&config.rotations), "rotations", "must lie in 1..=3600")?;
        need(config.steps.iter().all(|s| (1..=1024).contains(s)), "steps", "must be three numbers in 1..=1024")?;
        need(config.items > 0 && config.items < 1 << 32, "items", "must lie in 1..2^32")?;
        let colours = palette("data.sprites.colours", &config.colours)?;
        let shapes = config.shapes.iter().map(|s| s.name());
        let classes = if config.colours.is_empty() {
            shapes.collect()
        } else {
            shapes.flat_map(|s| config.colours.iter().map(move |c| format!("{c} {s}")).collect::<Vec<_>>()).collect()
        };
        Ok(Self { config, colours, classes, names: NAMES.map(String::from).into() })
    }

    /// The settings.
    pub fn config(&self) -> &SpritesConfig {
        &self.config
    }

    /// Sizes of the grid: shape, colour, scale, rotation, x, y.
    pub fn grid(&self) -> [u64; 6] {
        let c = &self.config;
        let [s, x, y] = c.steps.map(u64::from);
        [c.shapes.len() as u64, self.colours.len().max(1) as u64, s, u64::from(c.rotations), x, y]
    }

    /// Places along each axis of the grid of item i.
    pub fn places(&self, i: u64) -> [u64; 6] {
        let mut rest = i;
        let mut places = [0; 6];
        for (place, n) in places.iter_mut().zip(self.grid()).rev() {
            (*place, rest) = (rest % n, rest.div_euclid(n));
        }
        places
    }

    /// The item at given places of the grid: the inverse of [`Sprites::places`].
    pub fn number(&self, places: [u64; 6]) -> u64 {
        places.iter().zip(self.grid()).fold(0, |i, (&p, n)| i * n + p)
    }

    /// Where the centre may lie, so that an outline of this scale stays inside the picture.
    fn margin(&self, scale: f64) -> f64 {
        (scale * REACH + 0.6 / self.config.px as f64).min(0.49)
    }

    /// What is to be seen on item i.
    pub fn describe(&self, i: u64) -> Factors {
        let c = &self.config;
        let [lo, hi] = c.scale;
        let index = |n: u64| usize::try_from(n).unwrap_or(0);
        match c.mode {
            Mode::Random => {
                let mut d = Draws::at(c.seed, i, 0, Stream::World);
                let [shapes, colours, _, rotations, ..] = self.grid();
                let (shape, colour) = (index(d.below(shapes)), index(d.below(colours)));
                let scale = lo + (hi - lo) * d.uniform();
                let rotation = d.below(rotations) as f64 / rotations as f64;
                let m = self.margin(scale);
                let mut place = || m + (1.0 - 2.0 * m) * d.uniform();
                Factors { shape, colour, scale, rotation, x: place(), y: place() }
            }
            Mode::Grid => {
                let [shape, colour, s, r, x, y] = self.places(i);
                let [.., scales, rotations, nx, ny] = self.grid();
                let between = |k: u64, n: u64, lo: f64, hi: f64| {
                    if n > 1 { lo + (hi - lo) * k as f64 / (n - 1) as f64 } else { f64::midpoint(lo, hi) }
                };
                let m = self.margin(hi);
                Factors {
                    shape: index(shape),
                    colour: index(colour),
                    scale: between(s, scales, lo, hi),
                    rotation: r as f64 / rotations as f64,
                    x: between(x, nx, m, 1.0 - m),
                    y: between(y, ny, m, 1.0 - m),
                }
            }
        }
    }

    /// Draws `[C, H, W]` in [-1, 1]; each pixel is covered by the share of it that lies inside the outline.
    pub fn render(&self, f: &Factors, out: &mut [f32]) {
        let px = self.config.px;
        let plane = px * px;
        let ground = self.config.ground;
        let colour = self.colours.get(f.colour).copied().unwrap_or([1.0; 3]);
        out.fill(single(2.0 * ground - 1.0));
        let channels = out.len().div_euclid(plane).min(3);
        each_covered(self.config.shapes[f.shape], [f.x, f.y], f.scale, f.rotation, px, |pixel, share| {
            for (c, value) in colour[..channels].iter().enumerate() {
                out[c * plane + pixel] = single(2.0 * (ground + (value - ground) * share) - 1.0);
            }
        });
    }
}

impl Dataset for Sprites {
    fn len(&self) -> u64 {
        match self.config.mode {
            Mode::Random => self.config.items,
            Mode::Grid => self.grid().iter().product(),
        }
    }
    fn shape(&self) -> [usize; 3] {
        [if self.colours.is_empty() { 1 } else { 3 }, self.config.px, self.config.px]
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn factors(&self) -> &[String] {
        &self.names
    }
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 factors")]
    fn item(&self, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, Error> {
        if i >= self.len() {
            return Err(Error::bad("sprites", format!("item {i} of {}", self.len())));
        }
        let f = self.describe(i);
        self.render(&f, x);
        factors.copy_from_slice(&[
            f.shape as f32,
            f.colour as f32,
            f.scale as f32,
            f.rotation as f32,
            f.x as f32,
            f.y as f32,
        ]);
        let class = f.shape * self.colours.len().max(1) + f.colour;
        Ok(i64::try_from(class).unwrap_or(pentimento_core::NO_LABEL))
    }
    fn caption(&self, i: u64) -> Option<String> {
        let f = self.describe(i);
        Some(format!("a {}", self.classes.get(f.shape * self.colours.len().max(1) + f.colour)?))
    }
    fn fingerprint(&self) -> String {
        format!("sprites v1 {}", serde_json::to_string(&self.config).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(mode: Mode) -> Sprites {
        let shapes = vec![Shape::Square, Shape::Disc, Shape::Triangle, Shape::Cross, Shape::Ring];
        Sprites::new(SpritesConfig { mode, shapes, ..Default::default() }).unwrap()
    }

    /// Share of each pixel that is covered, from the red channel of a white shape on black.
    fn cover(f: &Factors) -> Vec<f64> {
        let config = SpritesConfig {
            colours: vec![],
            ground: 0.0,
            shapes: world(Mode::Random).config.shapes.clone(),
            ..Default::default()
        };
        let s = Sprites::new(config).unwrap();
        let mut x = vec![0.0; 32 * 32];
        s.render(f, &mut x);
        x.iter().map(|&v| f64::from(v + 1.0) / 2.0).collect()
    }

    #[test]
    fn area_and_centre_are_the_factors() {
        for shape in 0..5 {
            for k in 0..7 {
                let k = f64::from(k);
                let f = Factors {
                    shape,
                    colour: 0,
                    scale: 0.14 + 0.01 * k,
                    rotation: 0.07 * k,
                    x: 0.42 + 0.013 * k,
                    y: 0.55 - 0.011 * k,
                };
                let c = cover(&f);
                let area: f64 = c.iter().sum();
                let want = 4.0 * (f.scale * 32.0).powi(2);
                // Distances estimate coverage to second order; corners and thin arms cost a few percent.
                assert!((area / want - 1.0).abs() < 0.04, "{shape} {k}: {area} {want}");
                let centre = |axis: usize| {
                    c.iter().enumerate().map(|(i, v)| v * ([i % 32, i.div_euclid(32)][axis] as f64 + 0.5)).sum::<f64>()
                        / area
                        / 32.0
                };
                assert!(
                    (centre(0) - f.x).abs() < 0.004 && (centre(1) - f.y).abs() < 0.004,
                    "{shape} {k}: {} {}",
                    centre(0),
                    centre(1)
                );
            }
        }
    }

    #[test]
    fn the_grid_is_lexicographic_and_invertible() {
        let s = world(Mode::Grid);
        assert_eq!(s.len(), 5 * 6 * 6 * 16 * 16 * 16);
        for i in [0, 1, 16, 4097, s.len() - 1] {
            assert_eq!(s.number(s.places(i)), i);
        }
        assert_eq!(s.places(1), [0, 0, 0, 0, 0, 1]);
        assert!((s.describe(1).y - s.describe(0).y).abs() > 1e-3 && (s.describe(1).x - s.describe(0).x).abs() < 1e-12);
        assert!(s.item(s.len(), &mut vec![0.0; 3072], &mut [0.0; 6]).is_err());
    }

    #[test]
    fn columns_bear_the_names_of_their_factors() {
        let column = |of: i64| usize::try_from(of).unwrap();
        assert_eq!((NAMES[column(SCALE)], &NAMES[column(CENTRE)..]), ("scale", &["x", "y"][..]));
        let s = world(Mode::Random);
        let mut f = [0.0; 6];
        s.item(3, &mut vec![0.0; 3072], &mut f).unwrap();
        let seen = s.describe(3);
        let near = |of: i64, want: f64| (f64::from(f[column(of)]) - want).abs() < 1e-6;
        assert!(near(SCALE, seen.scale) && near(CENTRE, seen.x) && near(CENTRE + 1, seen.y), "{f:?} {seen:?}");
    }

    #[test]
    fn random_items_stay_inside_and_are_a_function_of_their_number() {
        let s = world(Mode::Random);
        let (mut x, mut again, mut f) = (vec![0.0; 3072], vec![0.0; 3072], [0.0; 6]);
        for i in 0..300 {
            let y = s.item(i, &mut x, &mut f).unwrap();
            assert!((y as f64 - f64::from(f[0] * 6.0 + f[1])).abs() < 1e-6);
            let ground = x[0];
            let border = (0..32).flat_map(|k| [k, 31 * 32 + k, 32 * k, 32 * k + 31]);
            assert!(
                border.into_iter().all(|p| (x[p] - ground).abs() < 0.35),
                "item {i} leaves the picture: {:?}",
                s.describe(i)
            );
        }
        s.item(7, &mut x, &mut f).unwrap();
        world(Mode::Random).item(7, &mut again, &mut f).unwrap();
        assert_eq!(x, again);
    }

    #[test]
    fn settings_out_of_range_are_one_sentence() {
        let bad = |c: SpritesConfig| Sprites::new(c).unwrap_err().to_string();
        assert!(bad(SpritesConfig { px: 2, ..Default::default() }).contains("data.sprites.px: must lie in 8..=512"));
        assert!(
            bad(SpritesConfig { colours: vec!["mauve".into()], ..Default::default() }).contains("choose one of red")
        );
        assert!(bad(SpritesConfig { scale: [0.3, 0.2], ..Default::default() }).contains("scale"));
    }
}

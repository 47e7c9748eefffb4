//! A procedural world of one coloured shape on a plain ground, after dSprites: its factors are exact, its items need no
//! file, and there are as many as you like.
//!
//! Two ways to number the items: [`Mode::Random`] draws every factor from its range by (seed, number); [`Mode::Grid`]
//! enumerates all combinations in lexicographic order (shape, colour, scale, rotation, x, y), the last running fastest.

use crate::{Dataset, Error};
use pentimento_core::{Draws, Stream};
use serde::{Deserialize, Serialize};
use std::f64::consts::{PI, TAU};

/// Outlines, all of the same area at the same scale.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Four equal sides.
    Square,
    /// A circle.
    Disc,
    /// Three equal sides, tip up.
    Triangle,
    /// Two arms crossing.
    Cross,
    /// A circle with a hole.
    Ring,
}

/// How items are numbered.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Every factor drawn from its range.
    Random,
    /// All combinations of `steps` values per factor.
    Grid,
}

/// Named colours, in [0, 1].
pub(crate) const COLOURS: [(&str, [f64; 3]); 8] = [
    ("red", [0.90, 0.12, 0.14]),
    ("green", [0.10, 0.75, 0.20]),
    ("blue", [0.15, 0.30, 0.95]),
    ("yellow", [1.00, 0.88, 0.10]),
    ("magenta", [0.85, 0.15, 0.85]),
    ("cyan", [0.10, 0.85, 0.90]),
    ("white", [1.00, 1.00, 1.00]),
    ("black", [0.00, 0.00, 0.00]),
];

/// Largest distance of an outline from its centre, in half-edges: the triangle's tip.
const REACH: f64 = 1.76;

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
        let mut colours = Vec::new();
        for name in &config.colours {
            let known = COLOURS.iter().find(|(n, _)| n == name);
            let all: Vec<_> = COLOURS.iter().map(|(n, _)| *n).collect();
            let (_, rgb) = known.ok_or_else(|| Error::bad(format!("data.sprites.colours: {name}"), format!("choose from {}", all.join(", "))))?;
            colours.push(*rgb);
        }
        let shapes = config.shapes.iter().map(|s| format!("{s:?}").to_lowercase());
        let classes = if config.colours.is_empty() {
            shapes.collect()
        } else {
            shapes.flat_map(|s| config.colours.iter().map(move |c| format!("{c} {s}")).collect::<Vec<_>>()).collect()
        };
        let names = ["shape", "colour", "scale", "rotation", "x", "y"].map(String::from).into();
        Ok(Self { config, colours, classes, names })
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
                let between = |k: u64, n: u64, lo: f64, hi: f64| if n > 1 { lo + (hi - lo) * k as f64 / (n - 1) as f64 } else { f64::midpoint(lo, hi) };
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

    /// Draws `[C, H, W]` in [-1, 1]; each pixel is covered by the share of it that lies inside the outline, estimated
    /// from the distance to the edge along its normal.
    #[expect(clippy::cast_possible_truncation, reason = "f64 to f32 pixels")]
    pub fn render(&self, f: &Factors, out: &mut [f32]) {
        let px = self.config.px;
        let edge = px as f64;
        let (sin, cos) = (f.rotation * TAU).sin_cos();
        let shape = self.config.shapes[f.shape];
        let ground = self.config.ground;
        let colour = self.colours.get(f.colour).copied().unwrap_or([1.0; 3]);
        let half = f.scale * edge;
        let plane = px * px;
        for row in 0..px {
            for column in 0..px {
                let (dx, dy) = (column as f64 + 0.5 - f.x * edge, row as f64 + 0.5 - f.y * edge);
                let (u, v) = (cos * dx + sin * dy, cos * dy - sin * dx);
                let cover = (0.5 - shape.distance(u / half, v / half) * half).clamp(0.0, 1.0);
                for (channel, value) in out.chunks_mut(plane).zip(colour) {
                    channel[row * px + column] = (2.0 * (ground + (value - ground) * cover) - 1.0) as f32;
                }
            }
        }
    }
}

impl Shape {
    /// Signed distance to the outline, negative inside, in half-edges of the square of the same area (area 4).
    pub(crate) fn distance(self, x: f64, y: f64) -> f64 {
        match self {
            Self::Square => box_distance(x, y, 1.0, 1.0),
            Self::Disc => x.hypot(y) - (4.0 / PI).sqrt(),
            Self::Triangle => {
                // Equilateral of area 4: inradius r with 3 sqrt(3) r^2 = 4; centre of mass at the origin.
                let r = (4.0 / (3.0 * 3.0_f64.sqrt())).sqrt();
                let (x, half) = (x.abs(), r * 3.0_f64.sqrt());
                let (tip, base) = (-2.0 * r, r);
                let below = segment(x, y, [0.0, base], [half, base]);
                let side = segment(x, y, [half, base], [0.0, tip]);
                let inside = y < base && y > tip + x * (base - tip) / half;
                if inside { -below.min(side) } else { below.min(side) }
            }
            Self::Cross => {
                // Arms of half-length a and half-width a / 3: area 20/9 a^2 = 4.
                let a = 1.8_f64.sqrt();
                box_distance(x, y, a, a / 3.0).min(box_distance(x, y, a / 3.0, a))
            }
            Self::Ring => {
                // Outer radius R, inner R/2: area 3/4 pi R^2 = 4.
                let outer = (16.0 / (3.0 * PI)).sqrt();
                (x.hypot(y) - 0.75 * outer).abs() - 0.25 * outer
            }
        }
    }
}

fn box_distance(x: f64, y: f64, a: f64, b: f64) -> f64 {
    let (dx, dy) = (x.abs() - a, y.abs() - b);
    dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0)
}

fn segment(x: f64, y: f64, a: [f64; 2], b: [f64; 2]) -> f64 {
    let (ex, ey) = (b[0] - a[0], b[1] - a[1]);
    let t = (((x - a[0]) * ex + (y - a[1]) * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
    (x - a[0] - t * ex).hypot(y - a[1] - t * ey)
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
        factors.copy_from_slice(&[f.shape as f32, f.colour as f32, f.scale as f32, f.rotation as f32, f.x as f32, f.y as f32]);
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
        let config = SpritesConfig { colours: vec![], ground: 0.0, shapes: world(Mode::Random).config.shapes.clone(), ..Default::default() };
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
                let f = Factors { shape, colour: 0, scale: 0.14 + 0.01 * k, rotation: 0.07 * k, x: 0.42 + 0.013 * k, y: 0.55 - 0.011 * k };
                let c = cover(&f);
                let area: f64 = c.iter().sum();
                let want = 4.0 * (f.scale * 32.0).powi(2);
                // Distances estimate coverage to second order; corners and thin arms cost a few percent.
                assert!((area / want - 1.0).abs() < 0.04, "{shape} {k}: {area} {want}");
                let centre = |axis: usize| c.iter().enumerate().map(|(i, v)| v * ([i % 32, i.div_euclid(32)][axis] as f64 + 0.5)).sum::<f64>() / area / 32.0;
                assert!((centre(0) - f.x).abs() < 0.004 && (centre(1) - f.y).abs() < 0.004, "{shape} {k}: {} {}", centre(0), centre(1));
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
    fn random_items_stay_inside_and_are_a_function_of_their_number() {
        let s = world(Mode::Random);
        let (mut x, mut again, mut f) = (vec![0.0; 3072], vec![0.0; 3072], [0.0; 6]);
        for i in 0..300 {
            let y = s.item(i, &mut x, &mut f).unwrap();
            assert_eq!(y, (f[0] * 6.0 + f[1]) as i64);
            let ground = x[0];
            let border = (0..32).flat_map(|k| [k, 31 * 32 + k, 32 * k, 32 * k + 31]);
            assert!(border.into_iter().all(|p| (x[p] - ground).abs() < 0.35), "item {i} leaves the picture: {:?}", s.describe(i));
        }
        s.item(7, &mut x, &mut f).unwrap();
        world(Mode::Random).item(7, &mut again, &mut f).unwrap();
        assert_eq!(x, again);
    }

    #[test]
    fn settings_out_of_range_are_one_sentence() {
        let bad = |c: SpritesConfig| Sprites::new(c).unwrap_err().to_string();
        assert!(bad(SpritesConfig { px: 2, ..Default::default() }).contains("data.sprites.px: must lie in 8..=512"));
        assert!(bad(SpritesConfig { colours: vec!["mauve".into()], ..Default::default() }).contains("choose from red"));
        assert!(bad(SpritesConfig { scale: [0.3, 0.2], ..Default::default() }).contains("scale"));
    }
}

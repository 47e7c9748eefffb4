//! A procedural world of several coloured shapes that may hide one another, with a caption, a mask per object, a depth
//! order and exact attributes: everything an object-centred or captioned experiment asks of its data.
//!
//! What is to be seen ([`Scenes::describe`]) is separate from how it looks ([`Scenes::render`], [`Scenes::masks`]):
//! a scene may be changed between the two.

use crate::shape::{Shape, below, cover, palette, single};
use crate::{Dataset, Error};
use pentimento_core::{Draws, Stream};
use serde::{Deserialize, Serialize};

/// Factors of an item, a column each.
const NAMES: [&str; 6] = ["shape", "colour", "size", "rotation", "x", "y"];

/// Column of the number of the colour among the factors.
pub const COLOUR: i64 = 1;

/// Column of x among the factors, the first of the centre's two.
pub const CENTRE: i64 = 4;

/// Settings of the world.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ScenesConfig {
    /// Edge of the picture.
    pub px: usize,
    /// Fewest and most objects.
    pub objects: [usize; 2],
    /// Outlines.
    pub shapes: Vec<Shape>,
    /// Colours by name.
    pub colours: Vec<String>,
    /// Brightness of the ground, 0 to 1.
    pub ground: f64,
    /// Half the edge of a square of the same area, as a share of the picture's edge: smallest and largest.
    pub size: [f64; 2],
    /// Rotations that are told apart, equally spaced over a full turn; 1 = upright.
    pub rotations: u32,
    /// Number of items.
    pub items: u64,
    /// Seed of the world.
    pub seed: u64,
}

impl Default for ScenesConfig {
    fn default() -> Self {
        Self {
            px: 32,
            objects: [1, 4],
            shapes: vec![Shape::Square, Shape::Disc, Shape::Triangle],
            colours: ["red", "green", "blue", "yellow", "magenta", "cyan"].map(String::from).into(),
            ground: 0.2,
            size: [0.08, 0.14],
            rotations: 16,
            items: 1_000_000,
            seed: 0,
        }
    }
}

/// One object of a scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// Number of the outline in the settings.
    pub shape: usize,
    /// Number of the colour in the settings.
    pub colour: usize,
    /// Half the edge of a square of the same area, as a share of the picture's edge.
    pub size: f64,
    /// Angle in turns, in [0, 1).
    pub rotation: f64,
    /// Centre from the left, as a share of the edge.
    pub x: f64,
    /// Centre from the top, as a share of the edge.
    pub y: f64,
}

/// What is to be seen: objects from the farthest to the nearest. No two share both outline and colour, so that words
/// single each one out.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// In depth order; a later one hides an earlier one.
    pub objects: Vec<Object>,
}

/// Share of every pixel that belongs to every object, in [0, 1].
///
/// # Shapes
/// - both: `[objects, H, W]`
#[derive(Clone, Debug, PartialEq)]
pub struct Masks {
    /// As if the object stood alone.
    pub full: Vec<f32>,
    /// What nearer objects leave of it.
    pub visible: Vec<f32>,
}

/// The world as a data set; class = number of objects, factors = those of the farthest object.
#[derive(Debug)]
pub struct Scenes {
    config: ScenesConfig,
    palette: Vec<[f64; 3]>,
    classes: Vec<String>,
    names: Vec<String>,
}

impl Scenes {
    /// Checks the settings.
    ///
    /// # Errors
    /// One sentence on the first that is out of its range.
    pub fn new(config: ScenesConfig) -> Result<Self, Error> {
        let need = |ok: bool, key: &str, want: &str| {
            if ok { Ok(()) } else { Err(Error::bad(format!("data.scenes.{key}"), want)) }
        };
        need((8..=512).contains(&config.px), "px", "must lie in 8..=512")?;
        let [few, many] = config.objects;
        need(1 <= few && few <= many && many <= 8, "objects", "must be two rising numbers in 1..=8")?;
        let palette = palette("data.scenes.colours", &config.colours)?;
        let kinds = config.shapes.len() * palette.len();
        need(kinds >= many, "shapes", "must make with the colours at least as many kinds as there are objects")?;
        let [lo, hi] = config.size;
        need(0.0 < lo && lo <= hi && hi <= 0.2, "size", "must be two rising numbers in (0, 0.2]")?;
        need((0.0..=1.0).contains(&config.ground), "ground", "must lie in [0, 1]")?;
        need((1..=3600).contains(&config.rotations), "rotations", "must lie in 1..=3600")?;
        need(config.items > 0 && config.items < 1 << 32, "items", "must lie in 1..2^32")?;
        let classes = (few..=many).map(|n| if n == 1 { "1 object".into() } else { format!("{n} objects") }).collect();
        Ok(Self { config, palette, classes, names: NAMES.map(String::from).into() })
    }

    /// The settings.
    pub fn config(&self) -> &ScenesConfig {
        &self.config
    }

    /// What is to be seen on item `index` of the world with this seed.
    pub fn describe(&self, seed: u64, index: u64) -> Scene {
        let c = &self.config;
        let mut d = Draws::at(seed, index, 0, Stream::World);
        let [few, many] = c.objects;
        let n = few + below(&mut d, many - few + 1);
        let colours = self.palette.len();
        let kinds = d.permutation(c.shapes.len() * colours);
        let mut objects = Vec::with_capacity(n);
        for kind in kinds.into_iter().take(n) {
            let object = self.place(&mut d, kind.div_euclid(colours), kind % colours, &objects);
            objects.push(object);
        }
        Scene { objects }
    }

    /// The first of a few tries that keeps clear of the others; failing that, the one that keeps farthest.
    fn place(&self, d: &mut Draws, shape: usize, colour: usize, others: &[Object]) -> Object {
        const TRIES: usize = 64;
        /// Half-edges between centres that leave most of the farther object in sight.
        const CLEAR: f64 = 0.95;
        let c = &self.config;
        let [lo, hi] = c.size;
        let size = lo + (hi - lo) * d.uniform();
        let rotation = d.below(u64::from(c.rotations)) as f64 / f64::from(c.rotations);
        let margin = size * c.shapes[shape].reach();
        let (mut best, mut farthest) = (Object { shape, colour, size, rotation, x: 0.5, y: 0.5 }, -1.0);
        for _ in 0..TRIES {
            let mut along = || margin + (1.0 - 2.0 * margin) * d.uniform();
            let tried = Object { x: along(), y: along(), ..best };
            let clearance = |o: &Object| (o.x - tried.x).hypot(o.y - tried.y) / (o.size + tried.size);
            let nearest = others.iter().map(clearance).fold(f64::INFINITY, f64::min);
            if nearest > farthest {
                (best, farthest) = (tried, nearest);
            }
            if farthest >= CLEAR {
                break;
            }
        }
        best
    }

    /// Per-object masks.
    pub fn masks(&self, scene: &Scene) -> Masks {
        let px = self.config.px;
        let mut full = vec![0.0; scene.objects.len() * px * px];
        for (o, plane) in scene.objects.iter().zip(full.chunks_mut(px * px)) {
            cover(self.config.shapes[o.shape], [o.x, o.y], o.size, o.rotation, px, plane);
        }
        let mut visible = full.clone();
        let mut left = vec![1.0; px * px];
        for plane in visible.chunks_mut(px * px).rev() {
            for (seen, left) in plane.iter_mut().zip(&mut left) {
                let covered = *seen;
                *seen *= *left;
                *left *= 1.0 - covered;
            }
        }
        Masks { full, visible }
    }

    /// Draws `[3, H, W]` in [-1, 1]: every object's colour by its visible mask, the rest ground.
    pub fn render(&self, scene: &Scene, out: &mut [f32]) {
        let plane = self.config.px * self.config.px;
        let masks = self.masks(scene);
        let ground = single(self.config.ground);
        for (c, channel) in out.chunks_mut(plane).enumerate() {
            channel.fill(2.0 * ground - 1.0);
            for (o, mask) in scene.objects.iter().zip(masks.visible.chunks(plane)) {
                let step = 2.0 * (single(self.palette[o.colour][c]) - ground);
                for (value, m) in channel.iter_mut().zip(mask) {
                    *value += m * step;
                }
            }
        }
    }

    /// `red square`
    fn noun(&self, o: &Object) -> String {
        format!("{} {}", self.config.colours[o.colour], self.config.shapes[o.shape].name())
    }

    /// `a red square left of a blue disc and above a green triangle`: the first object of the scene, and where it stands
    /// to each of the others along the axis that parts them most.
    pub fn words(&self, scene: &Scene) -> String {
        let Some((first, rest)) = scene.objects.split_first() else {
            return "an empty ground".into();
        };
        let last = rest.len().saturating_sub(1);
        rest.iter().enumerate().fold(format!("a {}", self.noun(first)), |words, (i, o)| {
            let joint = match i {
                0 => " ",
                _ if i == last => " and ",
                _ => ", ",
            };
            format!("{words}{joint}{} a {}", relation(first, o), self.noun(o))
        })
    }
}

/// Where a stands, seen from b.
fn relation(a: &Object, b: &Object) -> &'static str {
    let (dx, dy) = (a.x - b.x, a.y - b.y);
    match (dx.abs() >= dy.abs(), dx < 0.0, dy < 0.0) {
        (true, true, _) => "left of",
        (true, false, _) => "right of",
        (false, _, true) => "above",
        (false, _, false) => "below",
    }
}

impl Dataset for Scenes {
    fn len(&self) -> u64 {
        self.config.items
    }
    fn shape(&self) -> [usize; 3] {
        [3, self.config.px, self.config.px]
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn factors(&self) -> &[String] {
        &self.names
    }
    fn item(&self, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, Error> {
        if i >= self.len() {
            return Err(Error::bad("scenes", format!("item {i} of {}", self.len())));
        }
        let scene = self.describe(self.config.seed, i);
        self.render(&scene, x);
        let o = &scene.objects[0];
        let values = [o.shape as f64, o.colour as f64, o.size, o.rotation, o.x, o.y];
        factors.copy_from_slice(&values.map(single));
        let class = scene.objects.len() - self.config.objects[0];
        Ok(i64::try_from(class).unwrap_or(pentimento_core::NO_LABEL))
    }
    fn caption(&self, i: u64) -> Option<String> {
        (i < self.len()).then(|| self.words(&self.describe(self.config.seed, i)))
    }
    fn fingerprint(&self) -> String {
        format!("scenes v1 {}", serde_json::to_string(&self.config).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANE: usize = 32 * 32;

    fn world() -> Scenes {
        Scenes::new(ScenesConfig::default()).unwrap()
    }

    /// Centre of a mask in pixels, and its sum.
    fn centre(mask: &[f32]) -> (f64, f64, f64) {
        let mut sums = (0.0, 0.0, 0.0);
        for (i, &m) in mask.iter().enumerate() {
            let m = f64::from(m);
            sums = (sums.0 + m * ((i % 32) as f64 + 0.5), sums.1 + m * (i.div_euclid(32) as f64 + 0.5), sums.2 + m);
        }
        (sums.0 / sums.2, sums.1 / sums.2, sums.2)
    }

    #[test]
    fn captions_are_true_of_the_pixels() {
        let w = world();
        let mut seen = [0; 5];
        for i in 0..400 {
            let scene = w.describe(0, i);
            let masks = w.masks(&scene);
            let words = w.caption(i).unwrap();
            seen[scene.objects.len()] += 1;
            // Find each object by its words alone, then measure where its mask lies.
            let named = |noun: &str| {
                let k =
                    scene.objects.iter().position(|o| w.noun(o) == noun).unwrap_or_else(|| panic!("{words}: {noun}"));
                centre(&masks.full[k * PLANE..(k + 1) * PLANE])
            };
            let parts: Vec<&str> = words.strip_prefix("a ").unwrap().split(" a ").collect();
            assert_eq!(parts.len(), scene.objects.len(), "{words}");
            let relations = ["left of", "right of", "above", "below"];
            let mut subject = None;
            let mut pending: Option<&str> = None;
            for part in parts {
                let told = relations.iter().find(|r| part.ends_with(*r)).copied();
                let rest = part.trim_end_matches(told.unwrap_or("")).trim_end();
                let noun = rest.strip_suffix(" and").or(rest.strip_suffix(',')).unwrap_or(rest);
                let (x, y, _) = named(noun);
                let (sx, sy) = *subject.get_or_insert((x, y));
                match pending {
                    None => {}
                    Some("left of") => assert!(sx < x - 1.0, "{words}: {sx} {x}"),
                    Some("right of") => assert!(sx > x + 1.0, "{words}: {sx} {x}"),
                    Some("above") => assert!(sy < y - 1.0, "{words}: {sy} {y}"),
                    Some(_) => assert!(sy > y + 1.0, "{words}: {sy} {y}"),
                }
                pending = told;
            }
            assert!(pending.is_none(), "{words}");
        }
        assert!(seen[1..].iter().all(|&n| n > 60), "{seen:?}");
    }

    #[test]
    fn a_fixed_scene_has_this_caption() {
        let at = |shape, colour, x, y| Object { shape, colour, size: 0.1, rotation: 0.0, x, y };
        let mut scene = Scene { objects: vec![at(0, 0, 0.3, 0.3)] };
        assert_eq!(world().words(&scene), "a red square");
        scene.objects.extend([at(1, 2, 0.7, 0.4), at(2, 1, 0.35, 0.7), at(0, 3, 0.1, 0.25)]);
        assert_eq!(
            world().words(&scene),
            "a red square left of a blue disc, above a green triangle and right of a yellow square"
        );
    }

    #[test]
    fn masks_part_the_picture_and_follow_the_depth() {
        let w = world();
        let mut worst: f64 = 1.0;
        for i in 0..300 {
            let scene = w.describe(3, i);
            let m = w.masks(&scene);
            let n = scene.objects.len();
            for p in 0..PLANE {
                let total: f32 = (0..n).map(|k| m.visible[k * PLANE + p]).sum();
                let hidden: f32 = (0..n).map(|k| 1.0 - m.full[k * PLANE + p]).product();
                assert!((total + hidden - 1.0).abs() < 1e-5);
            }
            for k in 0..n {
                let (full, visible) = (&m.full[k * PLANE..][..PLANE], &m.visible[k * PLANE..][..PLANE]);
                assert!(visible.iter().zip(full).all(|(v, f)| v <= f));
                let (x, y, area) = centre(full);
                let o = scene.objects[k];
                assert!((x - o.x * 32.0).abs() < 0.2 && (y - o.y * 32.0).abs() < 0.2, "{o:?} {x} {y}");
                assert!((area / (4.0 * (o.size * 32.0).powi(2)) - 1.0).abs() < 0.06, "{o:?} {area}");
                worst = worst.min(centre(visible).2 / area);
            }
            assert_eq!(m.visible[(n - 1) * PLANE..], m.full[(n - 1) * PLANE..], "the nearest object is whole");
        }
        assert!(worst > 0.3, "an object is all but hidden: {worst}");
    }

    #[test]
    fn the_picture_is_the_masks_in_their_colours() {
        let w = world();
        let at = |colour, x| Object { shape: 0, colour, size: 0.15, rotation: 0.0, x, y: 0.5 };
        let mut x = vec![0.0; 3 * PLANE];
        w.render(&Scene { objects: vec![at(0, 0.4), at(2, 0.5)] }, &mut x);
        let pixel = |column: usize| [0, 1, 2].map(|c| (x[c * PLANE + 16 * 32 + column] + 1.0) / 2.0);
        for (column, want) in [(1, [0.2; 3]), (9, [0.9, 0.12, 0.14]), (16, [0.15, 0.3, 0.95])] {
            assert!(pixel(column).iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{column}: {:?}", pixel(column));
        }
    }

    #[test]
    fn items_are_functions_of_seed_and_number() {
        let w = world();
        assert_eq!(w.describe(1, 5), world().describe(1, 5));
        assert_ne!(w.describe(1, 5), w.describe(1, 6));
        assert_ne!(w.describe(1, 5), w.describe(2, 5));
        let (mut x, mut f) = (vec![0.0; 3 * PLANE], [0.0; 6]);
        for i in 0..20 {
            let scene = w.describe(0, i);
            assert_eq!(w.item(i, &mut x, &mut f).unwrap(), scene.objects.len() as i64 - 1);
            assert!((f64::from(f[4]) - scene.objects[0].x).abs() < 1e-6);
            assert!(x.iter().all(|v| (-1.0..=1.0).contains(v)));
            let kinds: Vec<_> = scene.objects.iter().map(|o| (o.shape, o.colour)).collect();
            assert!(kinds.iter().enumerate().all(|(k, a)| !kinds[..k].contains(a)));
        }
        assert!(w.item(1_000_000, &mut x, &mut f).is_err() && w.caption(1_000_000).is_none());
    }

    #[test]
    fn columns_bear_the_names_of_their_factors() {
        let column = |of: i64| usize::try_from(of).unwrap();
        assert_eq!((NAMES[column(COLOUR)], &NAMES[column(CENTRE)..]), ("colour", &["x", "y"][..]));
        let (w, mut x, mut f) = (world(), vec![0.0; 3 * PLANE], [0.0; 6]);
        w.item(3, &mut x, &mut f).unwrap();
        let seen = w.describe(0, 3).objects[0];
        let near = |of: i64, want: f64| (f64::from(f[column(of)]) - want).abs() < 1e-6;
        assert!(near(COLOUR, seen.colour as f64) && near(CENTRE, seen.x) && near(CENTRE + 1, seen.y), "{f:?} {seen:?}");
    }

    #[test]
    fn settings_out_of_range_are_one_sentence() {
        let bad = |c: ScenesConfig| Scenes::new(c).unwrap_err().to_string();
        assert!(
            bad(ScenesConfig { objects: [3, 2], ..Default::default() }).starts_with("data.scenes.objects: must be")
        );
        assert!(
            bad(ScenesConfig { colours: vec!["mauve".into()], ..Default::default() }).contains("choose one of red")
        );
        assert!(bad(ScenesConfig { colours: vec!["red".into()], ..Default::default() }).contains("as many kinds"));
        assert!(serde_json::from_str::<ScenesConfig>("{\"pixels\": 3}").is_err());
    }
}

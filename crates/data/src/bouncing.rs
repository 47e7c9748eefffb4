//! A procedural world of films: sprites fly straight, bounce off the walls without loss, and are kicked now and then.
//! The state behind every frame and every kick (action) is exact, so a world model can be held against the truth.
//!
//! As a data set its items are single frames, not films: frame i mod F of film i div F, as a picture of its own with the
//! state as factors. A network of pictures learns what one moment looks like; motion is in the factors (velocity, kick)
//! and in [`Bouncing::film`]. A split keeps a film on one side.
//!
//! Sprites pass in front of one another and do not collide. Lengths are shares of the picture's edge, times are frames.

use crate::shape::{Shape, below, cover, palette, single};
use crate::{Dataset, Error};
use pentimento_core::{Draws, NO_LABEL, Stream};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Settings of the world.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct BouncingConfig {
    /// Edge of the picture.
    pub px: usize,
    /// Frames per film.
    pub frames: usize,
    /// Fewest and most sprites.
    pub sprites: [usize; 2],
    /// Outlines.
    pub shapes: Vec<Shape>,
    /// Colours by name.
    pub colours: Vec<String>,
    /// Brightness of the ground, 0 to 1.
    pub ground: f64,
    /// Half the edge of a square of the same area: smallest and largest.
    pub size: [f64; 2],
    /// Speed at the start: smallest and largest.
    pub speed: [f64; 2],
    /// Chance that a sprite is kicked between two frames; 0 = no actions.
    pub kicks: f64,
    /// Standard deviation of either component of a kick.
    pub kick: f64,
    /// Number of films.
    pub films: u64,
    /// Seed of the world.
    pub seed: u64,
}

impl Default for BouncingConfig {
    fn default() -> Self {
        Self {
            px: 32,
            frames: 16,
            sprites: [1, 3],
            shapes: vec![Shape::Square, Shape::Disc, Shape::Triangle],
            colours: ["red", "green", "blue", "yellow", "magenta", "cyan"].map(String::from).into(),
            ground: 0.2,
            size: [0.08, 0.14],
            speed: [0.02, 0.08],
            kicks: 0.1,
            kick: 0.04,
            films: 1_000_000,
            seed: 0,
        }
    }
}

/// What stays of a sprite through a film.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Body {
    /// Number of the outline in the settings.
    pub shape: usize,
    /// Number of the colour in the settings.
    pub colour: usize,
    /// Half the edge of a square of the same area.
    pub size: f64,
    /// Angle in turns.
    pub rotation: f64,
    /// Distance that the centre keeps from the walls.
    pub margin: f64,
}

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Centre, from the left and from the top.
    pub position: [f64; 2],
    /// Per frame.
    pub velocity: [f64; 2],
}

/// A film before it is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Film {
    /// The sprites, from the farthest to the nearest.
    pub bodies: Vec<Body>,
    /// `[frames][sprites]`
    pub states: Vec<Vec<State>>,
    /// `[frames][sprites]`: what is added to each velocity after the frame was taken and before the flight to the next.
    /// The last frame's leads out of the film.
    pub actions: Vec<Vec<[f64; 2]>>,
}

impl Film {
    /// Kinetic energy at a frame; a sprite's mass is its area.
    ///
    /// # Panics
    /// When there is no such frame.
    pub fn energy(&self, frame: usize) -> f64 {
        let one = |(s, b): (&State, &Body)| {
            let [u, v] = s.velocity;
            2.0 * b.size * b.size * (u * u + v * v)
        };
        self.states[frame].iter().zip(&self.bodies).map(one).sum()
    }
}

/// The world. As a [`Dataset`] its items are single frames (frame i mod F of film i / F), their factors place and
/// velocity of the farthest sprite and the kick that follows; whole films come from [`Bouncing::film`].
#[derive(Debug)]
pub struct Bouncing {
    config: BouncingConfig,
    palette: Vec<[f64; 3]>,
    names: Vec<String>,
}

impl Bouncing {
    /// Checks the settings.
    ///
    /// # Errors
    /// One sentence on the first that is out of its range.
    pub fn new(config: BouncingConfig) -> Result<Self, Error> {
        let need = |ok: bool, key: &str, want: &str| {
            if ok { Ok(()) } else { Err(Error::bad(format!("data.bouncing.{key}"), want)) }
        };
        need((8..=512).contains(&config.px), "px", "must lie in 8..=512")?;
        need((1..=4096).contains(&config.frames), "frames", "must lie in 1..=4096")?;
        let [few, many] = config.sprites;
        need(1 <= few && few <= many && many <= 8, "sprites", "must be two rising numbers in 1..=8")?;
        need(!config.shapes.is_empty(), "shapes", "must name at least one outline")?;
        need(!config.colours.is_empty(), "colours", "must name at least one colour")?;
        let palette = palette("data.bouncing.colours", &config.colours)?;
        need((0.0..=1.0).contains(&config.ground), "ground", "must lie in [0, 1]")?;
        let [lo, hi] = config.size;
        need(0.0 < lo && lo <= hi && hi <= 0.2, "size", "must be two rising numbers in (0, 0.2]")?;
        let [slow, fast] = config.speed;
        need(0.0 <= slow && slow <= fast && fast <= 1.0, "speed", "must be two rising numbers in [0, 1]")?;
        need((0.0..=1.0).contains(&config.kicks), "kicks", "must lie in [0, 1]")?;
        need((0.0..=1.0).contains(&config.kick), "kick", "must lie in [0, 1]")?;
        let few = config.films.checked_mul(config.frames as u64).is_some_and(|n| 0 < n && n < 1 << 32);
        need(few, "films", "must be at least 1 and, times frames, below 2^32")?;
        let names = ["x", "y", "vx", "vy", "kick x", "kick y"].map(String::from).into();
        Ok(Self { config, palette, names })
    }

    /// The settings.
    pub fn config(&self) -> &BouncingConfig {
        &self.config
    }

    /// Film `index` of the world with this seed. Its bodies and start are drawn at step 0, the kick after frame f at
    /// step f + 1: a longer film begins like a shorter one.
    pub fn describe(&self, seed: u64, index: u64) -> Film {
        let c = &self.config;
        let mut d = Draws::at(seed, index, 0, Stream::World);
        let n = c.sprites[0] + below(&mut d, c.sprites[1] - c.sprites[0] + 1);
        // Colours tell sprites apart for as long as there are enough of them.
        let colours = d.permutation(c.colours.len());
        let (bodies, mut now): (Vec<_>, Vec<_>) =
            colours.into_iter().cycle().take(n).map(|k| self.begin(&mut d, k)).unzip();
        let mut film = Film { bodies, states: Vec::new(), actions: Vec::new() };
        for step in (1..=u32::MAX).take(c.frames) {
            let mut d = Draws::at(seed, index, step, Stream::World);
            let kicks: Vec<_> = (0..n).map(|_| self.kick(&mut d)).collect();
            let flown = film.bodies.iter().zip(&now).zip(&kicks).map(|((b, s), k)| step_of(b, *s, *k)).collect();
            film.states.push(std::mem::replace(&mut now, flown));
            film.actions.push(kicks);
        }
        film
    }

    fn begin(&self, d: &mut Draws, colour: usize) -> (Body, State) {
        let c = &self.config;
        let shape = below(d, c.shapes.len());
        let mut between = |[lo, hi]: [f64; 2]| lo + (hi - lo) * d.uniform();
        let size = between(c.size);
        let margin = size * c.shapes[shape].reach();
        let room = [margin, 1.0 - margin];
        let body = Body { shape, colour, size, rotation: between([0.0, 1.0]), margin };
        let position = [between(room), between(room)];
        let (speed, (sin, cos)) = (between(c.speed), between([0.0, TAU]).sin_cos());
        (body, State { position, velocity: [speed * cos, speed * sin] })
    }

    fn kick(&self, d: &mut Draws) -> [f64; 2] {
        let kicked = d.uniform() < self.config.kicks;
        let kick = [d.normal() * self.config.kick, d.normal() * self.config.kick];
        if kicked { kick } else { [0.0; 2] }
    }

    /// Draws one frame, `[3, H, W]` in [-1, 1].
    ///
    /// # Panics
    /// When the film has no such frame.
    pub fn render(&self, film: &Film, frame: usize, out: &mut [f32]) {
        let px = self.config.px;
        let mut mask = vec![0.0; px * px];
        out.fill(single(2.0 * self.config.ground - 1.0));
        for (body, state) in film.bodies.iter().zip(&film.states[frame]) {
            cover(self.config.shapes[body.shape], state.position, body.size, body.rotation, px, &mut mask);
            for (channel, value) in out.chunks_mut(px * px).zip(self.palette[body.colour]) {
                let value = single(2.0 * value - 1.0);
                for (x, m) in channel.iter_mut().zip(&mask) {
                    *x += m * (value - *x);
                }
            }
        }
    }

    /// Film `index` of this world, drawn.
    ///
    /// # Shapes
    /// - the floats: `[F, 3, H, W]` in [-1, 1]
    ///
    /// # Errors
    /// When there is no such film.
    pub fn film(&self, index: u64) -> Result<(Film, Vec<f32>), Error> {
        if index >= self.config.films {
            return Err(Error::bad("bouncing", format!("film {index} of {}", self.config.films)));
        }
        let film = self.describe(self.config.seed, index);
        let picture = 3 * self.config.px * self.config.px;
        let mut x = vec![0.0; self.config.frames * picture];
        for (f, out) in x.chunks_mut(picture).enumerate() {
            self.render(&film, f, out);
        }
        Ok((film, x))
    }
}

/// One frame later: the kick, then free flight with mirror reflection at the walls, exactly, however fast.
pub fn step_of(body: &Body, state: State, kick: [f64; 2]) -> State {
    let [px, py] = state.position;
    let [vx, vy] = [state.velocity[0] + kick[0], state.velocity[1] + kick[1]];
    let ((x, vx), (y, vy)) = (fold(px + vx, vx, body.margin), fold(py + vy, vy, body.margin));
    State { position: [x, y], velocity: [vx, vy] }
}

/// Brings a coordinate that has flown through walls back between them: two reflections make a shift by twice the room.
fn fold(x: f64, v: f64, margin: f64) -> (f64, f64) {
    let room = 1.0 - 2.0 * margin;
    let u = (x - margin).rem_euclid(2.0 * room);
    if u <= room { (margin + u, v) } else { (margin + (2.0 * room - u), -v) }
}

impl Dataset for Bouncing {
    fn len(&self) -> u64 {
        self.config.films * self.config.frames as u64
    }
    fn shape(&self) -> [usize; 3] {
        [3, self.config.px, self.config.px]
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn factors(&self) -> &[String] {
        &self.names
    }
    fn item(&self, i: u64, x: &mut [f32], factors: &mut [f32]) -> Result<i64, Error> {
        if i >= self.len() {
            return Err(Error::bad("bouncing", format!("frame {i} of {}", self.len())));
        }
        let frames = self.config.frames as u64;
        let frame = usize::try_from(i % frames).unwrap_or(0);
        let film = self.describe(self.config.seed, i.div_euclid(frames));
        self.render(&film, frame, x);
        let (State { position: [px, py], velocity: [vx, vy] }, [kx, ky]) =
            (film.states[frame][0], film.actions[frame][0]);
        factors.copy_from_slice(&[px, py, vx, vy, kx, ky].map(single));
        Ok(NO_LABEL)
    }
    fn group(&self, i: u64) -> u64 {
        i.div_euclid(self.config.frames as u64)
    }
    fn fingerprint(&self) -> String {
        format!("bouncing v1 {}", serde_json::to_string(&self.config).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(config: BouncingConfig) -> Bouncing {
        Bouncing::new(config).unwrap()
    }

    #[test]
    fn without_kicks_energy_is_conserved_and_flight_has_its_closed_form() {
        let w = world(BouncingConfig { kicks: 0.0, frames: 200, speed: [0.05, 0.9], ..Default::default() });
        let mut bounces = 0;
        for i in 0..20 {
            let film = w.describe(0, i);
            for f in 0..200 {
                // Only signs change: the energy is the same to the last bit.
                assert_eq!(film.energy(f).to_bits(), film.energy(0).to_bits());
                for (k, b) in film.bodies.iter().enumerate() {
                    let (s, s0) = (film.states[f][k], film.states[0][k]);
                    for axis in 0..2 {
                        let (x, v) =
                            fold(s0.position[axis] + f as f64 * s0.velocity[axis], s0.velocity[axis], b.margin);
                        assert!((x - s.position[axis]).abs() < 1e-9, "{i} {f}");
                        assert!((b.margin - 1e-12..=1.0 - b.margin + 1e-12).contains(&s.position[axis]));
                        let at_wall = (x - b.margin).min(1.0 - b.margin - x) < 1e-9;
                        assert!(at_wall || (v - s.velocity[axis]).abs() < 1e-12);
                        bounces += usize::from(v * s0.velocity[axis] < 0.0);
                    }
                }
            }
            assert!(film.actions.iter().flatten().all(|a| a.iter().all(|v| v.abs() < f64::MIN_POSITIVE)));
        }
        assert!(bounces > 1000);
    }

    #[test]
    fn a_known_bounce() {
        let body = Body { shape: 0, colour: 0, size: 0.1, rotation: 0.0, margin: 0.1 };
        let s = step_of(&body, State { position: [0.8, 0.15], velocity: [0.2, -0.1] }, [0.1, 0.0]);
        // x: 0.8 + 0.3 = 1.1, mirrored at 0.9 to 0.7; y: 0.05, mirrored at 0.1 to 0.15.
        for (got, want) in s.position.iter().chain(&s.velocity).zip([0.7, 0.15, -0.3, 0.1]) {
            assert!((got - want).abs() < 1e-12, "{s:?}");
        }
    }

    #[test]
    fn kicks_explain_every_change_and_come_at_their_rate() {
        let w = world(BouncingConfig { frames: 64, sprites: [2, 2], ..Default::default() });
        let (mut kicks, mut sum) = (0.0_f64, 0.0_f64);
        for i in 0..40 {
            let film = w.describe(7, i);
            for f in 0..64 {
                for (k, body) in film.bodies.iter().enumerate() {
                    let a = film.actions[f][k];
                    if a.iter().any(|v| v.abs() > 0.0) {
                        kicks += 1.0;
                        sum += a[0] * a[0] + a[1] * a[1];
                    }
                    if f + 1 < 64 {
                        assert_eq!(step_of(body, film.states[f][k], a), film.states[f + 1][k]);
                    }
                }
            }
        }
        let rate = kicks / (40.0 * 64.0 * 2.0);
        assert!((rate - 0.1).abs() < 0.02, "{rate}");
        assert!((sum / kicks / (2.0 * 0.04 * 0.04) - 1.0).abs() < 0.25, "{}", sum / kicks);
    }

    #[test]
    fn a_split_keeps_films_whole() {
        let world = BouncingConfig { films: 200, frames: 4, ..Default::default() };
        let part = |from, to| crate::Subset::by_hash(std::sync::Arc::new(self::world(world.clone())), 7, from, to);
        let (a, b) = (part(0.0, 0.3), part(0.3, 1.0));
        let films = |s: &crate::Subset| (0..s.len()).map(|i| s.group(i)).collect::<std::collections::BTreeSet<_>>();
        assert!(films(&a).is_disjoint(&films(&b)));
        assert_eq!((films(&a).len() + films(&b).len(), a.len() + b.len()), (200, 800));
        assert!((160..320).contains(&a.len()), "{}", a.len());
    }

    #[test]
    fn a_longer_film_begins_like_a_shorter_one() {
        let (short, long) =
            (world(BouncingConfig::default()), world(BouncingConfig { frames: 40, ..Default::default() }));
        let (a, b) = (short.describe(1, 9), long.describe(1, 9));
        assert_eq!((&a.bodies, &a.states[..], &a.actions[..]), (&b.bodies, &b.states[..16], &b.actions[..16]));
        assert_ne!(a, short.describe(1, 8));
    }

    #[test]
    fn the_pixels_are_where_the_state_says_and_items_are_frames() {
        let w =
            world(BouncingConfig { sprites: [1, 1], colours: vec!["white".into()], ground: 0.0, ..Default::default() });
        let (film, x) = w.film(3).unwrap();
        assert_eq!(x.len(), 16 * 3 * 32 * 32);
        for (f, frame) in x.chunks(3 * 32 * 32).enumerate() {
            let red: Vec<f64> = frame[..1024].iter().map(|&v| f64::from(v + 1.0)).collect();
            let total: f64 = red.iter().sum();
            let cx = red.iter().enumerate().map(|(p, v)| v * ((p % 32) as f64 + 0.5)).sum::<f64>() / total / 32.0;
            let cy =
                red.iter().enumerate().map(|(p, v)| v * (p.div_euclid(32) as f64 + 0.5)).sum::<f64>() / total / 32.0;
            let [px, py] = film.states[f][0].position;
            assert!((cx - px).abs() < 0.006 && (cy - py).abs() < 0.006, "{f}: {cx} {px} {cy} {py}");
            let (mut item, mut factors) = (vec![0.0; 3072], [0.0; 6]);
            assert_eq!(w.item(3 * 16 + f as u64, &mut item, &mut factors).unwrap(), NO_LABEL);
            assert_eq!(item, frame);
            assert!((f64::from(factors[2]) - film.states[f][0].velocity[0]).abs() < 1e-6);
        }
        assert!(w.film(1_000_000).is_err() && w.item(16_000_000, &mut vec![0.0; 3072], &mut [0.0; 6]).is_err());
    }

    #[test]
    fn settings_out_of_range_are_one_sentence() {
        let bad = |c: BouncingConfig| Bouncing::new(c).unwrap_err().to_string();
        assert!(bad(BouncingConfig { kicks: 1.5, ..Default::default() }).starts_with("data.bouncing.kicks: must lie"));
        assert!(bad(BouncingConfig { speed: [0.3, 0.1], ..Default::default() }).contains("speed"));
        assert!(
            bad(BouncingConfig { colours: vec!["mauve".into()], ..Default::default() }).contains("choose one of red")
        );
    }
}

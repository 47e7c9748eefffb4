//! What is to be seen in a picture of the world of scenes: the way back from pixels to objects, without learning anything.
//!
//! [`Scenes::render`] gives a pixel ground + m (colour - ground), m the share of it that the object covers. So the colour of a pixel
//! is the ray from the ground on which it lies, and m the place on it; touching pixels of one colour that are at least half covered
//! are an object.

use crate::Error;
use crate::scenes::Scenes;
use crate::shape::{palette, single};

/// An object that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Number of the colour in the settings.
    pub colour: usize,
    /// Centre of what is in sight from the left, as a share of the edge.
    pub x: f64,
    /// The same from the top.
    pub y: f64,
    /// Area in sight, as a share of that of the smallest object.
    pub area: f64,
}

/// Finds the objects of pictures of one world.
#[derive(Clone, Debug)]
pub struct Detector {
    px: usize,
    ground: f32,
    colours: Vec<[f32; 3]>,
    /// Pixels of the smallest object.
    smallest: f64,
}

/// Least area of an object, as a share of the smallest one: less is a rim, or a rest that a nearer object leaves.
const LEAST: f64 = 0.4;

impl Detector {
    /// # Errors
    /// A colour without a name, which a world excludes.
    pub fn new(world: &Scenes) -> Result<Self, Error> {
        let c = world.config();
        let colours = palette("data.scenes.colours", &c.colours)?;
        let edge = c.px as f64;
        Ok(Self {
            px: c.px,
            ground: single(2.0 * c.ground - 1.0),
            colours: colours.into_iter().map(|rgb| rgb.map(|v| single(2.0 * v - 1.0))).collect(),
            smallest: (2.0 * c.size[0] * edge).powi(2),
        })
    }

    /// Colour and coverage of a pixel: the nearest point on the rays from the ground to the colours.
    fn nearest(&self, pixel: [f32; 3]) -> (usize, f32) {
        let offset = pixel.map(|v| v - self.ground);
        let mut best = (0, 0.0, f32::INFINITY);
        for (k, colour) in self.colours.iter().enumerate() {
            let ray = colour.map(|v| v - self.ground);
            let dot = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            // A colour that is the ground itself covers nothing.
            let m = (dot(offset, ray) / dot(ray, ray).max(1e-6)).clamp(0.0, 1.0);
            let miss = [0, 1, 2].map(|c| offset[c] - m * ray[c]);
            let far = dot(miss, miss);
            if far < best.2 {
                best = (k, m, far);
            }
        }
        (best.0, best.1)
    }

    /// The objects of a picture `[3, H, W]` in [-1, 1], in no order that means anything.
    ///
    /// # Panics
    /// On a picture of another size.
    pub fn find(&self, picture: &[f32]) -> Vec<Found> {
        let plane = self.px * self.px;
        assert_eq!(picture.len(), 3 * plane, "a picture of {} px", self.px);
        let pixels: Vec<(usize, f32)> =
            (0..plane).map(|p| self.nearest([0, 1, 2].map(|c| picture[c * plane + p]))).collect();
        let mut free: Vec<bool> = pixels.iter().map(|&(_, m)| m >= 0.5).collect();
        let mut found = Vec::new();
        for start in 0..plane {
            if !std::mem::take(&mut free[start]) {
                continue;
            }
            let colour = pixels[start].0;
            let (mut open, mut sums) = (vec![start], [0.0; 3]);
            while let Some(p) = open.pop() {
                let (row, column) = (p.div_euclid(self.px), p % self.px);
                let m = f64::from(pixels[p].1);
                sums = [sums[0] + m, sums[1] + m * (column as f64 + 0.5), sums[2] + m * (row as f64 + 0.5)];
                let near = [
                    (column > 0).then(|| p - 1),
                    (column + 1 < self.px).then(|| p + 1),
                    (row > 0).then(|| p - self.px),
                    (row + 1 < self.px).then(|| p + self.px),
                ];
                for q in near.into_iter().flatten().filter(|&q| pixels[q].0 == colour) {
                    if std::mem::take(&mut free[q]) {
                        open.push(q);
                    }
                }
            }
            let area = sums[0] / self.smallest;
            if area >= LEAST {
                let edge = self.px as f64 * sums[0];
                found.push(Found { colour, x: sums[1] / edge, y: sums[2] / edge, area });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::{Object, Scene, ScenesConfig};

    fn drawn(world: &Scenes, scene: &Scene) -> Vec<Found> {
        let px = world.config().px;
        let mut x = vec![0.0; 3 * px * px];
        world.render(scene, &mut x);
        Detector::new(world).unwrap().find(&x)
    }

    #[test]
    fn one_object_is_found_where_it_is_and_as_large() {
        for px in [24, 32, 64] {
            let world = Scenes::new(ScenesConfig { px, objects: [1, 1], ..Default::default() }).unwrap();
            for i in 0..300 {
                let scene = world.describe(0, i);
                let (found, o) = (drawn(&world, &scene), scene.objects[0]);
                let [only] = found[..] else { panic!("{px} {i}: {found:?}") };
                assert_eq!(only.colour, o.colour, "{px} {i}");
                assert!((only.x - o.x).hypot(only.y - o.y) < 0.5 / px as f64, "{px}: {only:?} {o:?}");
                assert!((only.area / (o.size / 0.08).powi(2) - 1.0).abs() < 0.35, "{px}: {only:?} {o:?}");
            }
        }
    }

    /// Its error on scenes of several objects, which may touch and hide one another: colours and places, missed and invented.
    #[test]
    fn several_objects_are_found_but_for_the_hidden_and_the_merged() {
        let world = Scenes::new(ScenesConfig { objects: [2, 4], ..Default::default() }).unwrap();
        let (mut all, mut hit, mut invented) = (0, 0, 0);
        for i in 0..500 {
            let scene = world.describe(1, i);
            let found = drawn(&world, &scene);
            let near = |o: &Object, f: &Found| f.colour == o.colour && (f.x - o.x).hypot(f.y - o.y) < 0.06;
            all += scene.objects.len();
            hit += scene.objects.iter().filter(|o| found.iter().any(|f| near(o, f))).count();
            invented += found.iter().filter(|f| !scene.objects.iter().any(|o| near(o, f))).count();
        }
        let share = |n: usize| n as f64 / all as f64;
        assert!(share(hit) > 0.93 && share(invented) < 0.04, "{} {}", share(hit), share(invented));
    }

    #[test]
    fn a_bare_ground_and_noise_below_half_hold_nothing() {
        let world = Scenes::new(ScenesConfig::default()).unwrap();
        assert_eq!(drawn(&world, &Scene { objects: Vec::new() }), []);
        let mut x = vec![0.0; 3 * 32 * 32];
        world.render(&Scene { objects: Vec::new() }, &mut x);
        for (i, v) in x.iter_mut().enumerate() {
            *v += 0.2 * (i as f32 * 12.9898).sin();
        }
        assert_eq!(Detector::new(&world).unwrap().find(&x), []);
    }
}

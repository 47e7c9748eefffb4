//! Outlines and colours, and how an outline covers the pixels of a picture.

use crate::Error;
use pentimento_core::Draws;
use serde::{Deserialize, Serialize};
use std::f64::consts::{PI, SQRT_2, TAU};

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

impl Shape {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Square, Self::Disc, Self::Triangle, Self::Cross, Self::Ring];

    /// Signed distance to the outline, negative inside, in half-edges of the square of the same area (area 4).
    pub(crate) fn distance(self, x: f64, y: f64) -> f64 {
        match self {
            Self::Square => box_distance(x, y, 1.0, 1.0),
            Self::Disc => length(x, y) - (4.0 / PI).sqrt(),
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
                (length(x, y) - 0.75 * outer).abs() - 0.25 * outer
            }
        }
    }

    /// `square`
    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Distance from the centre to the farthest point, in half-edges of the square of the same area.
    pub(crate) fn reach(self) -> f64 {
        match self {
            Self::Square => SQRT_2,
            Self::Disc => (4.0 / PI).sqrt(),
            // Twice the inradius of the equilateral triangle of area 4.
            Self::Triangle => 2.0 * (4.0 / 27.0_f64.sqrt()).sqrt(),
            // The corner of an arm: sqrt(a^2 + a^2 / 9) with a^2 = 9 / 5.
            Self::Cross => SQRT_2,
            Self::Ring => (16.0 / (3.0 * PI)).sqrt(),
        }
    }
}

fn box_distance(x: f64, y: f64, a: f64, b: f64) -> f64 {
    let (dx, dy) = (x.abs() - a, y.abs() - b);
    length(dx.max(0.0), dy.max(0.0)) + dx.max(dy).min(0.0)
}

fn segment(x: f64, y: f64, a: [f64; 2], b: [f64; 2]) -> f64 {
    let (ex, ey) = (b[0] - a[0], b[1] - a[1]);
    let t = (((x - a[0]) * ex + (y - a[1]) * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
    length(x - a[0] - t * ex, y - a[1] - t * ey)
}

/// The root of the squares: four times faster than `hypot`, which guards against sizes that pictures do not have.
fn length(x: f64, y: f64) -> f64 {
    (x * x + y * y).sqrt()
}

/// Colours of these names, in [0, 1].
pub(crate) fn palette(key: &str, names: &[String]) -> Result<Vec<[f64; 3]>, Error> {
    let all: Vec<_> = COLOURS.iter().map(|(n, _)| *n).collect();
    let one = |name: &String| {
        let known = COLOURS.iter().find(|(n, _)| n == name).map(|(_, rgb)| *rgb);
        known.ok_or_else(|| Error::bad(format!("{key}: {name}"), pentimento_core::choose(name, &all)))
    };
    names.iter().map(one).collect()
}

/// Calls `paint` for the pixels of a square picture that an outline touches, with their number and the share of them that
/// lies inside, estimated from the distance to the edge along its normal. Lengths are shares of the picture's edge.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "pixel numbers, clamped; saturating")]
pub(crate) fn each_covered(
    shape: Shape,
    [x, y]: [f64; 2],
    size: f64,
    rotation: f64,
    px: usize,
    mut paint: impl FnMut(usize, f64),
) {
    let edge = px as f64;
    let (half, reach) = (size * edge, size * shape.reach() * edge + 1.0);
    let (sin, cos) = (rotation * TAU).sin_cos();
    let span = |centre: f64| {
        let from = (centre * edge - reach).floor().clamp(0.0, edge);
        (from as usize, (centre * edge + reach).ceil().clamp(from, edge) as usize)
    };
    let ((left, right), (top, bottom)) = (span(x), span(y));
    for row in top..bottom {
        for column in left..right {
            let (dx, dy) = (column as f64 + 0.5 - x * edge, row as f64 + 0.5 - y * edge);
            let (u, v) = (cos * dx + sin * dy, cos * dy - sin * dx);
            let share = 0.5 - shape.distance(u / half, v / half) * half;
            if share > 0.0 {
                paint(row * px + column, share.min(1.0));
            }
        }
    }
}

/// Writes those shares into `[H, W]`, and 0 elsewhere.
pub(crate) fn cover(shape: Shape, at: [f64; 2], size: f64, rotation: f64, px: usize, out: &mut [f32]) {
    out.fill(0.0);
    each_covered(shape, at, size, rotation, px, |pixel, share| out[pixel] = single(share));
}

#[expect(clippy::cast_possible_truncation, reason = "f64 to f32 values")]
pub(crate) fn single(x: f64) -> f32 {
    x as f32
}

pub(crate) fn below(d: &mut Draws, n: usize) -> usize {
    usize::try_from(d.below(n as u64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_have_area_four_their_reach_and_their_centre_of_mass_at_the_origin() {
        let n = 600;
        let h = 4.0 / f64::from(n);
        for shape in Shape::ALL {
            let (mut area, mut moment, mut reach) = (0.0, [0.0; 2], 0.0_f64);
            for k in 0..n * n {
                let at = |i: i32| -2.0 + h * (f64::from(i) + 0.5);
                let (x, y) = (at(k % n), at(k.div_euclid(n)));
                if shape.distance(x, y) < 0.0 {
                    area += h * h;
                    moment = [moment[0] + x * h * h, moment[1] + y * h * h];
                    reach = reach.max(x.hypot(y));
                }
            }
            assert!((area - 4.0).abs() < 0.02, "{shape:?}: {area}");
            assert!(moment[0].abs() < 0.01 && moment[1].abs() < 0.01, "{shape:?}: {moment:?}");
            assert!((reach - shape.reach()).abs() < 0.02, "{shape:?}: {reach} {}", shape.reach());
        }
    }

    #[test]
    fn any_two_outlines_differ_by_a_tenth_of_their_pixels() {
        let plane = |shape| {
            let mut out = vec![0.0; 32 * 32];
            cover(shape, [0.5; 2], 0.2, 0.0, 32, &mut out);
            out
        };
        for (i, a) in Shape::ALL.into_iter().enumerate() {
            for b in &Shape::ALL[..i] {
                let (a_plane, b_plane) = (plane(a), plane(*b));
                let apart: f32 = a_plane.iter().zip(&b_plane).map(|(a, b)| (a - b).abs()).sum();
                assert!(apart > 0.1 * a_plane.iter().sum::<f32>(), "{a:?} {b:?}: {apart}");
            }
        }
    }
}

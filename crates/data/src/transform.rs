//! What is done to a picture between its file and the batch.

use pentimento_core::{Draws, Stream};
use pentimento_io::picture::Picture;

/// Random changes of training pictures, addressed by (seed, position in training).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Mirror left-right, half of the time.
    pub flip: bool,
    /// Shift by up to so many pixels each way; the border repeats.
    pub shift: usize,
}

impl Augment {
    /// Changes one item `[C, H, W]` in place.
    pub fn apply(&self, x: &mut [f32], [c, h, w]: [usize; 3], seed: u64, position: u64) {
        if !self.flip && self.shift == 0 {
            return;
        }
        let mut d = Draws::at(seed, position, 0, Stream::Augment);
        let (flip, span) = (self.flip && d.below(2) == 1, 2 * self.shift as u64 + 1);
        let (dx, dy) =
            (d.below(span).cast_signed() - self.shift as i64, d.below(span).cast_signed() - self.shift as i64);
        let from = x.to_vec();
        let clamp = |v: i64, n: usize| usize::try_from(v.max(0)).unwrap_or(0).min(n - 1);
        for channel in 0..c {
            for row in 0..h {
                let source_row = clamp(row as i64 + dy, h);
                for column in 0..w {
                    let mirrored = if flip { w - 1 - column } else { column };
                    let source = clamp(mirrored as i64 + dx, w);
                    x[(channel * h + row) * w + column] = from[(channel * h + source_row) * w + source];
                }
            }
        }
    }
}

/// A picture as `[C, H, W]` bytes of a given edge: centre-cropped to a square and averaged over areas, as PIL's box filter.
/// Edge 0 leaves it as it is.
pub fn fit(picture: &Picture, channels: usize, px: usize) -> (Vec<u8>, [usize; 3]) {
    let side = |n: u32| usize::try_from(n).unwrap_or(0);
    let (w, h, from) = (side(picture.width), side(picture.height), usize::from(picture.channels));
    let (ow, oh, side_x, side_y) = if px == 0 { (w, h, w, h) } else { (px, px, w.min(h), w.min(h)) };
    let (left, top) = ((w - side_x) >> 1, (h - side_y) >> 1);
    let (step_x, step_y) = (side_x as f64 / ow as f64, side_y as f64 / oh as f64);
    let mut out = vec![0; channels * ow * oh];
    for row in 0..oh {
        let rows = span(row as f64 * step_y, step_y, side_y);
        for column in 0..ow {
            let columns = span(column as f64 * step_x, step_x, side_x);
            let mut sum = [0.0; 4];
            let mut area = 0.0;
            for &(r, wr) in &rows {
                for &(c, wc) in &columns {
                    let pixel = ((top + r) * w + left + c) * from;
                    for (s, &p) in sum.iter_mut().zip(&picture.pixels[pixel..pixel + from]) {
                        *s += wr * wc * f64::from(p);
                    }
                    area += wr * wc;
                }
            }
            for (channel, value) in
                convert(&sum.map(|s| s / area), from, channels).into_iter().enumerate().take(channels)
            {
                out[(channel * oh + row) * ow + column] = to_byte(value);
            }
        }
    }
    (out, [channels, oh, ow])
}

/// Source pixels and their shares under one target pixel.
fn span(from: f64, length: f64, n: usize) -> Vec<(usize, f64)> {
    let to = from + length;
    (index(from)..n)
        .take_while(|&i| (i as f64) < to - 1e-9)
        .map(|i| (i, (to.min(i as f64 + 1.0) - from.max(i as f64)).max(0.0)))
        .collect()
}

/// Grey to colour, colour to grey (luma of ITU-R 601), opacity over white.
fn convert(v: &[f64; 4], from: usize, to: usize) -> [f64; 3] {
    let over = |value: f64, opacity: f64| value * opacity / 255.0 + 255.0 - opacity;
    let rgb = match from {
        1 => [v[0]; 3],
        2 => [over(v[0], v[1]); 3],
        4 => [over(v[0], v[3]), over(v[1], v[3]), over(v[2], v[3])],
        _ => [v[0], v[1], v[2]],
    };
    if to == 1 { [0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]; 3] } else { rgb }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded and clamped to a byte")]
fn to_byte(v: f64) -> u8 {
    v.round().clamp(0.0, 255.0) as u8
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a pixel number")]
fn index(v: f64) -> usize {
    v.max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_averages_two_by_two_and_crops_the_centre() {
        let p = Picture { width: 6, height: 4, channels: 1, pixels: (0..24).map(|v| v * 4).collect() };
        let (out, shape) = fit(&p, 1, 2);
        assert_eq!(shape, [1, 2, 2]);
        // Columns 1..5 remain; the first block is rows 0-1, columns 1-2: 4, 8, 28, 32.
        assert_eq!(out, [18, 26, 66, 74]);
        assert_eq!(fit(&p, 3, 0), ([p.pixels.clone(), p.pixels.clone(), p.pixels.clone()].concat(), [3, 4, 6]));
        let clear = Picture { width: 1, height: 1, channels: 4, pixels: vec![10, 20, 30, 0] };
        assert_eq!(fit(&clear, 3, 0).0, [255, 255, 255]);
    }

    #[test]
    fn augmentation_is_addressed_and_shifts_are_bounded() {
        let x: Vec<f32> = (0..16).map(|v| v as f32).collect();
        let run = |seed, position| {
            let mut y = x.clone();
            Augment { flip: true, shift: 1 }.apply(&mut y, [1, 4, 4], seed, position);
            y
        };
        assert_eq!(run(1, 2), run(1, 2));
        assert!((0..20).any(|p| run(1, p) != x) && (0..200).any(|p| run(1, p) == x));
        let mut same = x.clone();
        Augment::default().apply(&mut same, [1, 4, 4], 1, 1);
        assert_eq!(same, x);
    }
}

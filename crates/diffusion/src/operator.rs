//! Linear maps that lose something of a picture: what an inverse problem knows of it.

use pentimento_core::{Noise, Stream};
use tch::{Device, Kind, Tensor};

/// A linear map A of pictures, `y = A x`, with its adjoint and its pseudo-inverse. Gradients pass through all of them.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`
/// - `y`: `[B, ...]`, as [`Operator::apply`] gives it
pub trait Operator {
    /// A x.
    fn apply(&self, x: &Tensor) -> Tensor;

    /// A^T y.
    fn adjoint(&self, y: &Tensor) -> Tensor;

    /// A^+ y, the smallest picture whose image under A is nearest to y. The adjoint, where the rows of A are orthonormal.
    fn pseudo_inverse(&self, y: &Tensor) -> Tensor {
        self.adjoint(y)
    }

    /// A^+ y + (I - A^+ A) x, the picture nearest to x that explains y.
    fn replace(&self, x: &Tensor, y: &Tensor) -> Tensor {
        x + self.pseudo_inverse(&(y - self.apply(x)))
    }

    /// A x under normal noise of a standard deviation in the unit of y, in the range of A.
    fn measure(&self, x: &Tensor, std: f64, noise: &Noise) -> Tensor {
        let y = self.apply(x);
        let eps = noise.normal_like(&y, Stream::Own);
        y + self.apply(&self.pseudo_inverse(&eps)) * std
    }
}

/// Inpainting: pixels that are known, and holes. y keeps the picture's own grid, with zeros in the holes; on such y, A A^T is the
/// identity.
#[derive(Debug)]
pub struct Mask {
    known: Tensor,
}

impl Mask {
    /// From a map that is true, or 1, where a pixel is known; it broadcasts to the pictures.
    pub fn new(known: &Tensor) -> Self {
        Self { known: known.to_kind(Kind::Float) }
    }

    /// A square hole in each picture, in a place of its own at least `margin` from the border.
    ///
    /// # Panics
    /// When it does not fit.
    pub fn boxes(noise: &Noise, [height, width]: [i64; 2], [side, margin]: [i64; 2], device: Device) -> Self {
        let room = height.min(width) - side - 2 * margin;
        assert!(side > 0 && margin >= 0 && room >= 0, "a hole of {side} with {margin} around it in {height} x {width}");
        let n = i64::try_from(noise.samples().len()).unwrap_or(0);
        let u = noise.uniform(&[n, 2], device, Stream::Own);
        let inside = |axis: i64, length: i64| {
            let places = length - side - 2 * margin + 1;
            let first = (u.select(1, axis) * places as f64).floor() + margin as f64; // [B]
            let behind = Tensor::arange(length, (Kind::Float, device)) - first.unsqueeze(1); // [B, length]
            behind.ge(0).logical_and(&behind.lt(side))
        };
        let hole = inside(0, height).unsqueeze(2).logical_and(&inside(1, width).unsqueeze(1)); // [B, H, W]
        Self::new(&hole.unsqueeze(1).logical_not())
    }

    /// Single pixels lost: in each picture a share of its own, uniform between two, and each pixel by itself.
    pub fn scattered(noise: &Noise, [height, width]: [i64; 2], [least, most]: [f64; 2], device: Device) -> Self {
        let n = i64::try_from(noise.samples().len()).unwrap_or(0);
        let u = noise.uniform(&[n, 1 + height * width], device, Stream::Own);
        let share = u.narrow(1, 0, 1) * (most - least) + least;
        Self::new(&u.narrow(1, 1, height * width).ge_tensor(&share).view([n, 1, height, width]))
    }

    /// 1 where a pixel is known, else 0.
    pub fn known(&self) -> &Tensor {
        &self.known
    }
}

impl Operator for Mask {
    fn apply(&self, x: &Tensor) -> Tensor {
        x * self.known.to_kind(x.kind())
    }
    fn adjoint(&self, y: &Tensor) -> Tensor {
        self.apply(y)
    }
}

/// Super-resolution: the means of square blocks, times the block's side, so that the rows of A are orthonormal.
#[derive(Clone, Copy, Debug)]
pub struct BlockAverage {
    /// Side of a block; it must divide both sides of the pictures.
    pub side: i64,
}

impl Operator for BlockAverage {
    fn apply(&self, x: &Tensor) -> Tensor {
        let (k, size) = (self.side, x.size());
        assert!(size[2] % k == 0 && size[3] % k == 0, "blocks of {k} in pictures {size:?}");
        x.avg_pool2d([k, k], [k, k], [0, 0], false, true, None::<i64>) * k as f64
    }
    fn adjoint(&self, y: &Tensor) -> Tensor {
        let (k, size) = (self.side, y.size());
        y.upsample_nearest2d([k * size[2], k * size[3]], None, None) / k as f64
    }
}

/// Blur: convolution with a kernel, the picture going on periodically beyond its border.
#[derive(Debug)]
pub struct Blur {
    /// Factor of each frequency, `[H, W/2 + 1]`, complex.
    spectrum: Tensor,
    /// Its inverse, zero where a frequency is lost.
    inverse: Tensor,
    size: [i64; 2],
}

impl Blur {
    /// Frequencies that pass by less than this share of the strongest count as lost: in f32 their inverse would be rounding.
    pub const LOST: f64 = 1e-4;

    /// With a kernel of odd sides, centred, over pictures of one size.
    ///
    /// # Panics
    /// On a kernel that is larger than the pictures or has an even side.
    pub fn new(kernel: &Tensor, [height, width]: [i64; 2]) -> Self {
        let (h, w) = kernel.size2().unwrap_or((0, 0));
        assert!(h % 2 == 1 && w % 2 == 1 && h <= height && w <= width, "a kernel of {h} x {w} on {height} x {width}");
        let padded = kernel.to_kind(Kind::Double).constant_pad_nd([0, width - w, 0, height - h]);
        let spectrum =
            padded.roll([-(h >> 1), -(w >> 1)], [0, 1]).fft_rfft2(None::<&[i64]>, [-2, -1].as_slice(), "backward");
        let power = spectrum.abs().square();
        let passes = power.ge_tensor(&(power.max() * (Self::LOST * Self::LOST)));
        let inverse = spectrum.conj_physical() * (passes.to_kind(Kind::Double) / power.where_scalarother(&passes, 1.0));
        Self { spectrum, inverse, size: [height, width] }
    }

    /// With a normal kernel of a standard deviation in pixels, cut at three of them.
    pub fn gaussian(std: f64, size: [i64; 2], device: Device) -> Self {
        let reach = (1..).find(|&r| r as f64 >= 3.0 * std).unwrap_or(1_i64);
        let line =
            (Tensor::arange_start(-reach, reach + 1, (Kind::Double, device)).square() / (-2.0 * std * std)).exp();
        let line = &line / line.sum(Kind::Double);
        Self::new(&line.outer(&line), size)
    }

    fn filter(&self, x: &Tensor, factor: &Tensor) -> Tensor {
        let kind = if x.kind() == Kind::Double { Kind::ComplexDouble } else { Kind::ComplexFloat };
        let seen = x.fft_rfft2(None::<&[i64]>, [-2, -1].as_slice(), "backward") * factor.to_kind(kind);
        seen.fft_irfft2(self.size.as_slice(), [-2, -1].as_slice(), "backward")
    }
}

impl Operator for Blur {
    fn apply(&self, x: &Tensor) -> Tensor {
        self.filter(x, &self.spectrum)
    }
    fn adjoint(&self, y: &Tensor) -> Tensor {
        self.filter(y, &self.spectrum.conj_physical())
    }
    fn pseudo_inverse(&self, y: &Tensor) -> Tensor {
        self.filter(y, &self.inverse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Device = Device::Cpu;

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.size(), b.size());
        (a - b).abs().max().double_value(&[])
    }

    fn draw(n: u64, size: [i64; 3]) -> Tensor {
        let size = [&[i64::try_from(n).unwrap()], &size[..]].concat();
        Noise::new(5, (0..n).collect()).normal(&size, CPU, Stream::Eps).to_kind(Kind::Double)
    }

    /// A linear map as a matrix, a column for each unit picture.
    fn matrix(map: impl Fn(&Tensor) -> Tensor, size: [i64; 3]) -> Tensor {
        let n: i64 = size.iter().product();
        map(&Tensor::eye(n, (Kind::Double, CPU)).view([n, size[0], size[1], size[2]])).flatten(1, -1).tr()
    }

    fn operators() -> Vec<(&'static str, Box<dyn Operator>, [i64; 3])> {
        let one = Noise::new(2, vec![7]);
        let skew = Tensor::from_slice(&[0.1, 0.5, 0.0, 0.2, 1.0, -0.3, 0.0, 0.0, 0.4]).view([3, 3]);
        // A mean over three has no frequency 2 of 6: it is lost, and its inverse must not be tried.
        let mean = Tensor::full([1, 3], 1.0 / 3.0, (Kind::Double, CPU));
        vec![
            ("box", Box::new(Mask::boxes(&one, [6, 8], [3, 1], CPU)), [2, 6, 8]),
            ("scattered", Box::new(Mask::scattered(&one, [6, 8], [0.4, 0.6], CPU)), [2, 6, 8]),
            ("blocks", Box::new(BlockAverage { side: 2 }), [2, 6, 8]),
            ("skew blur", Box::new(Blur::new(&skew, [6, 8])), [1, 6, 8]),
            ("lossy blur", Box::new(Blur::new(&mean, [4, 6])), [1, 4, 6]),
            ("gaussian blur", Box::new(Blur::gaussian(0.7, [9, 7], CPU)), [1, 9, 7]),
        ]
    }

    #[test]
    fn adjoint_and_pseudo_inverse_are_those_of_the_matrix() {
        for (name, a, size) in operators() {
            let dense = matrix(|x| a.apply(x), size);
            let seen = a.apply(&draw(1, size)).size();
            let image = [seen[1], seen[2], seen[3]];
            let (adjoint, inverse) = (matrix(|y| a.adjoint(y), image), matrix(|y| a.pseudo_inverse(y), image));
            assert!(gap(&adjoint, &dense.tr()) < 1e-12, "{name}");
            assert!(gap(&inverse, &dense.linalg_pinv(1e-6, false)) < 1e-9, "{name}");
            let (x, y) = (draw(3, size), draw(3, image));
            let products = [a.apply(&x) * &y, &x * a.adjoint(&y)].map(|t| t.sum(Kind::Double).double_value(&[]));
            assert!((products[0] - products[1]).abs() < 1e-10, "{name}: <Ax, y> = <x, A^T y> {products:?}");
            let orthonormal = gap(&a.apply(&a.adjoint(&a.apply(&x))), &a.apply(&x)) < 1e-12;
            assert_eq!(orthonormal, !name.contains("blur"), "{name}: A A^T = I on the range of A");
        }
        let blocks = matrix(|x| BlockAverage { side: 2 }.apply(x), [2, 6, 8]);
        assert!(gap(&blocks.matmul(&blocks.tr()), &Tensor::eye(24, (Kind::Double, CPU))) < 1e-12);
    }

    /// The nearest picture that explains y: it does, nothing that A does not see has moved, and one that did stays.
    #[test]
    fn replacing_changes_what_is_seen_and_nothing_else() {
        for (name, a, size) in operators() {
            let (x, truth) = (draw(3, size), draw(3, size).flip([0]));
            let y = a.apply(&truth);
            let replaced = a.replace(&x, &y);
            assert!(gap(&a.apply(&replaced), &y) < 1e-10, "{name}");
            let moved = &replaced - &x;
            assert!(gap(&a.pseudo_inverse(&a.apply(&moved)), &moved) < 1e-10, "{name}");
            assert!(gap(&a.replace(&x, &a.apply(&x)), &x) < 1e-10, "{name}");
        }
    }

    #[test]
    fn noise_has_its_size_in_the_range_and_belongs_to_its_picture() {
        for (name, a, size) in operators().into_iter().filter(|o| !o.0.contains("scattered")) {
            let x = draw(400, size);
            let noise = Noise::new(3, (0..400).collect());
            let off = a.measure(&x, 0.1, &noise) - a.apply(&x);
            assert!(gap(&a.apply(&a.pseudo_inverse(&off)), &off) < 1e-9, "{name}");
            let rank = matrix(|x| a.apply(x), size).linalg_matrix_rank(1e-6, false).int64_value(&[]) as f64;
            let square = off.square().sum(Kind::Double).double_value(&[]) / (400.0 * rank);
            assert!((square / 0.01 - 1.0).abs() < 0.05, "{name}: {square}");
            let alone = a.measure(&x.narrow(0, 17, 1), 0.1, &Noise::new(3, vec![17]));
            assert!(gap(&alone.get(0), &a.measure(&x, 0.1, &noise).get(17)) < 1e-12, "{name}");
        }
    }

    #[test]
    fn holes_have_their_shape_in_every_place_that_fits() {
        let n = 2000;
        let noise = Noise::new(1, (0..n).collect());
        let hole: Tensor = 1.0 - Mask::boxes(&noise, [8, 6], [3, 1], CPU).known();
        assert_eq!(hole.size(), [2000, 1, 8, 6]);
        let counts = hole.sum_dim_intlist([1, 2, 3].as_slice(), false, Kind::Float);
        assert_eq!((counts.min().double_value(&[]), counts.max().double_value(&[])), (9.0, 9.0));
        // Four rows by two columns to begin in; how often each pixel is hit says that all are taken alike.
        let hit = hole.mean_dim([0, 1].as_slice(), false, Kind::Double);
        let want = |i: i64, length: i64| {
            let places = length - 4;
            (1..=places).filter(|&first| (first..first + 3).contains(&i)).count() as f64 / places as f64
        };
        for (i, j) in (0..8).flat_map(|i| (0..6).map(move |j| (i, j))) {
            let (found, want) = (hit.double_value(&[i, j]), want(i, 8) * want(j, 6));
            assert!((found - want).abs() < 0.05 && (want > 0.0 || found == 0.0), "{i} {j}: {found} {want}");
        }
        let lost: Tensor = 1.0 - Mask::scattered(&noise, [10, 10], [0.3, 0.7], CPU).known();
        let shares = lost.mean_dim([1, 2, 3].as_slice(), false, Kind::Double);
        let (mean, std) = (shares.mean(Kind::Double).double_value(&[]), shares.std(false).double_value(&[]));
        // Variance of the share (0.4^2 / 12) and of a mean of 100 pixels (at most 0.25 / 100).
        assert!((mean - 0.5).abs() < 0.01 && (std - (0.16_f64 / 12.0 + 0.00237).sqrt()).abs() < 0.01, "{mean} {std}");
    }
}

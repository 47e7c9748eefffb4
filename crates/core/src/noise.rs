//! Randomness that is addressed, not drawn: every number is a function of (seed, sample, step, stream).
//!
//! Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a 128-bit counter under a
//! 64-bit key to 128 random bits. The key is the seed; the counter holds the block, the step, the sample and the stream.
//! So sample 17 meets the same noise in a batch of 1 or of 64, on one device or eight, and after a resume.
//!
//! Normals come from Box-Muller with polynomial logarithm, sine and cosine (coefficients of the Cephes single-precision
//! library): only additions and multiplications, so the bits do not depend on the C library.

use tch::{Device, Kind, Tensor};

/// What a random number is for. Two uses of one (seed, sample, step) never share bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Stream {
    /// Initial weights; the sample is a hash of the parameter's name.
    Init = 1,
    /// Order of the data; the step is the epoch.
    Order = 2,
    /// Content of procedural data.
    World = 3,
    /// Augmentation: crops and flips.
    Augment = 4,
    /// Noise level of a training sample.
    Time = 5,
    /// Gaussian noise of a training sample.
    Eps = 6,
    /// Label dropout.
    Drop = 7,
    /// Start of a sampler.
    Start = 8,
    /// Noise injected by a sampler's step.
    Churn = 9,
    /// Noise under which a representation is read.
    Read = 10,
    /// Everything a method needs beyond these.
    Own = 64,
}

const ROUND: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// One block: 128 bits for a counter under a key.
#[inline]
fn philox(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(ROUND[0]) * u64::from(c[0]);
        let p1 = u64::from(ROUND[1]) * u64::from(c[2]);
        c = [high(p1) ^ c[1] ^ k[0], low(p1), high(p0) ^ c[3] ^ k[1], low(p0)];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
#[inline]
fn low(x: u64) -> u32 {
    x as u32
}

#[inline]
fn high(x: u64) -> u32 {
    low(x >> 32)
}

/// A stream of random numbers at one address. Cheap to make; consumes counters 0, 1, 2, ...
#[derive(Clone, Debug)]
pub struct Draws {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Draws {
    /// The numbers at (seed, sample, step, stream). Samples are below 2^48.
    pub fn at(seed: u64, sample: u64, step: u32, stream: Stream) -> Self {
        let tail = (u32::from(stream as u16) << 16) | (high(sample) & 0xFFFF);
        Self { key: [low(seed), high(seed)], counter: [0, step, low(sample), tail], block: [0; 4], used: 4 }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let x = (u64::from(self.bits()) << 32) | u64::from(self.bits());
        (x >> 11) as f64 * (0.5_f64).powi(53)
    }

    /// Uniform in 0..n by rejection-free multiplication (bias below n / 2^64).
    ///
    /// # Panics
    /// When n is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "below(0)");
        let x = (u64::from(self.bits()) << 32) | u64::from(self.bits());
        let wide = (u128::from(x) * u128::from(n)) >> 64;
        u64::try_from(wide).unwrap_or(n - 1)
    }

    /// One standard normal.
    pub fn normal(&mut self) -> f64 {
        let mut two = [0.0; 2];
        pairs(&[self.bits()], &[self.bits()], &mut two);
        f64::from(two[0])
    }

    /// Fills a slice with standard normals, starting at the next whole block.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        self.used = 4;
        const LANES: usize = 32;
        let (mut a, mut b) = ([0; 2 * LANES], [0; 2 * LANES]);
        for chunk in out.chunks_mut(4 * LANES) {
            for lane in 0..LANES {
                let mut c = self.counter;
                c[0] = c[0].wrapping_add(u32::try_from(lane).unwrap_or(0));
                let r = philox(c, self.key);
                (a[2 * lane], b[2 * lane], a[2 * lane + 1], b[2 * lane + 1]) = (r[0], r[1], r[2], r[3]);
            }
            let blocks = chunk.len().div_ceil(4);
            self.counter[0] = self.counter[0].wrapping_add(u32::try_from(blocks).unwrap_or(0));
            if chunk.len() == 4 * LANES {
                pairs(&a, &b, chunk);
            } else {
                let mut full = [0.0; 4 * LANES];
                pairs(&a, &b, &mut full);
                chunk.copy_from_slice(&full[..chunk.len()]);
            }
        }
    }

    /// A permutation of 0..n (Fisher-Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            let j = usize::try_from(self.below(i as u64 + 1)).unwrap_or(0);
            order.swap(i, j);
        }
        order
    }
}

/// Box-Muller: out[2 i], out[2 i + 1] from the bits a[i], b[i].
#[inline]
fn pairs(a: &[u32], b: &[u32], out: &mut [f32]) {
    for ((a, b), z) in a.iter().zip(b).zip(out.chunks_exact_mut(2)) {
        // (k + 1/2) / 2^31 lies in (0, 1]: the logarithm is finite and |z| <= 6.7.
        let u = ((a >> 1).cast_signed() as f32 + 0.5) * (1.0 / 2_147_483_648.0);
        let r = (-2.0 * ln(u)).max(0.0).sqrt();
        let (s, c) = sin_cos_turn(*b);
        z[0] = r * c;
        z[1] = r * s;
    }
}

/// Natural logarithm of a positive normal f32 (Cephes `logf`).
#[inline]
fn ln(x: f32) -> f32 {
    let bits = x.to_bits().wrapping_add(0x3F80_0000 - 0x3F35_04F3); // so that the mantissa lies in [sqrt(1/2), sqrt(2))
    let e = ((bits >> 23).cast_signed() - 127) as f32;
    let m = f32::from_bits((bits & 0x007F_FFFF) + 0x3F35_04F3) - 1.0;
    let m2 = m * m;
    let mut p = 7.037_683_6e-2_f32;
    for c in [
        -0.115_146_1,
        0.116_769_98,
        -0.124_201_41,
        0.142_493_23,
        -0.166_680_57,
        0.200_007_15,
        -0.249_999_94,
        0.333_333_3,
    ] {
        p = p * m + c;
    }
    // ln 2 in two parts keeps the product with the exponent exact.
    p * m * m2 - 2.121_944_4e-4 * e - 0.5 * m2 + m + 0.693_359_4 * e
}

/// Sine and cosine of 2 pi b / 2^32 (Cephes `sinf`, `cosf` on the reduced octant).
#[inline]
fn sin_cos_turn(b: u32) -> (f32, f32) {
    let q = b.wrapping_add(1 << 29) >> 30; // nearest quarter turn
    let x = (b.wrapping_sub(q << 30)).cast_signed() as f32 * (std::f32::consts::PI / 2_147_483_648.0); // in [-pi/4, pi/4]
    let x2 = x * x;
    let s = ((-1.951_529_6e-4 * x2 + 8.332_161e-3) * x2 - 0.166_666_55) * x2 * x + x;
    let c = ((2.443_315_7e-5 * x2 - 1.388_731_6e-3) * x2 + 4.166_664_6e-2) * x2 * x2 - 0.5 * x2 + 1.0;
    let (s, c) = if q & 1 == 1 { (c, -s) } else { (s, c) };
    if q & 2 == 2 { (-s, -c) } else { (s, c) }
}

/// The noise of a batch: which samples it holds, under which seed, at which step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noise {
    seed: u64,
    samples: Vec<u64>,
    step: u32,
}

impl Noise {
    /// The noise of these samples under a seed, at step 0.
    pub fn new(seed: u64, samples: Vec<u64>) -> Self {
        Self { seed, samples, step: 0 }
    }

    /// The same samples at another step.
    #[must_use]
    pub fn at_step(&self, step: u32) -> Self {
        Self { step, ..self.clone() }
    }

    /// The same samples repeated n times, as when several copies of a batch run together.
    #[must_use]
    pub fn repeat(&self, n: usize) -> Self {
        Self { samples: self.samples.repeat(n), ..self.clone() }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The numbers of the samples, one per row of the batch.
    pub fn samples(&self) -> &[u64] {
        &self.samples
    }

    /// How many samples it is for.
    pub fn rows(&self) -> i64 {
        i64::try_from(self.samples.len()).unwrap_or(i64::MAX)
    }

    /// Standard normals in f32 of the shape and on the device asked for; row i belongs to sample i.
    ///
    /// # Shapes
    /// - `size`: `[B, ...]` with B = number of samples
    pub fn normal(&self, size: &[i64], device: Device, stream: Stream) -> Tensor {
        let rows = self.samples.len();
        assert_eq!(size.first().copied(), i64::try_from(rows).ok(), "noise for {rows} samples, tensor {size:?}");
        let row: usize = size[1..].iter().map(|&n| usize::try_from(n).unwrap_or(0)).product();
        let mut host = vec![0.0; rows * row];
        for (sample, out) in self.samples.iter().zip(host.chunks_mut(row.max(1))) {
            Draws::at(self.seed, *sample, self.step, stream).fill_normal(out);
        }
        Tensor::from_slice(&host).view(size).to_device(device)
    }

    /// Uniform numbers in [0, 1) in f32 of the shape and on the device asked for; row i belongs to sample i.
    ///
    /// # Shapes
    /// - `size`: `[B, ...]` with B = number of samples
    pub fn uniform(&self, size: &[i64], device: Device, stream: Stream) -> Tensor {
        let rows = self.samples.len();
        assert_eq!(size.first().copied(), i64::try_from(rows).ok(), "noise for {rows} samples, tensor {size:?}");
        let row: usize = size[1..].iter().map(|&n| usize::try_from(n).unwrap_or(0)).product();
        let mut host = vec![0.0; rows * row];
        for (sample, out) in self.samples.iter().zip(host.chunks_mut(row.max(1))) {
            let mut draws = Draws::at(self.seed, *sample, self.step, stream);
            // 24 bits: every value is an f32 and none rounds up to 1.
            out.fill_with(|| (draws.bits() >> 8) as f32 * (1.0 / 16_777_216.0));
        }
        Tensor::from_slice(&host).view(size).to_device(device)
    }

    /// [`Noise::normal`] of the shape, device and kind of another tensor.
    pub fn normal_like(&self, x: &Tensor, stream: Stream) -> Tensor {
        self.normal(&x.size(), x.device(), stream).to_kind(x.kind())
    }
}

/// Reseeds libtorch's own generators from an address: a belt for operations of libtorch that draw by themselves.
pub fn reseed_libtorch(seed: u64, step: u64) {
    let mut d = Draws::at(seed, step & 0xFFFF_FFFF_FFFF, 0, Stream::Own);
    let bits = (u64::from(d.bits()) << 32) | u64::from(d.bits());
    tch::manual_seed((bits >> 1).cast_signed());
}

/// A 48-bit address for a name (FNV-1a), for numbers that belong to a parameter rather than to a sample.
pub fn address_of(name: &str) -> u64 {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
    (hash ^ (hash >> 48)) & 0xFFFF_FFFF_FFFF
}

/// Standard normals for a parameter, by its name.
pub fn init_normal(seed: u64, name: &str, size: &[i64]) -> Tensor {
    let n: i64 = size.iter().product();
    let mut host = vec![0.0; usize::try_from(n).unwrap_or(0)];
    Draws::at(seed, address_of(name), 0, Stream::Init).fill_normal(&mut host);
    Tensor::from_slice(&host).view(size)
}

/// Uniform numbers in [-1, 1) for a parameter, by its name.
pub fn init_uniform(seed: u64, name: &str, size: &[i64]) -> Tensor {
    let n: i64 = size.iter().product();
    let mut draws = Draws::at(seed, address_of(name), 0, Stream::Init);
    let host: Vec<f64> = (0..n).map(|_| 2.0 * draws.uniform() - 1.0).collect();
    Tensor::from_slice(&host).to_kind(Kind::Float).view(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn polynomials_match_the_library_functions() {
        for i in 0..200_000_u32 {
            let b = i.wrapping_mul(21_475);
            let angle = f64::from(b) * std::f64::consts::TAU / 4_294_967_296.0;
            let (s, c) = sin_cos_turn(b);
            assert!(
                (f64::from(s) - angle.sin()).abs() < 3e-7 && (f64::from(c) - angle.cos()).abs() < 3e-7,
                "{b}: {s} {c}"
            );
            let u = (i as f32 + 0.5) / 200_000.0;
            assert!((ln(u) - u.ln()).abs() <= 2e-6 * (1.0 + u.ln().abs()), "ln {u}: {} {}", ln(u), u.ln());
        }
        assert!((ln(0.5_f32.powi(32)) - 0.5_f32.powi(32).ln()).abs() < 1e-5);
    }

    #[test]
    fn normals_have_the_moments_and_tails_of_a_normal() {
        let mut z = vec![0.0; 1 << 20];
        Draws::at(3, 5, 7, Stream::Eps).fill_normal(&mut z);
        let n = z.len() as f64;
        let moment = |k: i32| z.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n;
        assert!(moment(1).abs() < 4.0 / n.sqrt());
        assert!((moment(2) - 1.0).abs() < 4.0 * (2.0 / n).sqrt());
        assert!((moment(4) - 3.0).abs() < 4.0 * (96.0 / n).sqrt());
        let tail = z.iter().filter(|v| v.abs() > 3.0).count() as f64 / n;
        assert!((tail - 0.0026998).abs() < 2.5e-4, "{tail}");
    }

    #[test]
    fn a_sample_has_the_same_noise_in_every_batch() {
        let one = Noise::new(9, vec![17]).normal(&[1, 3, 5], Device::Cpu, Stream::Start);
        let many = Noise::new(9, (0..64).collect()).normal(&[64, 3, 5], Device::Cpu, Stream::Start);
        assert_eq!(one.get(0), many.get(17));
        let other = Noise::new(9, vec![17]).at_step(1).normal(&[1, 3, 5], Device::Cpu, Stream::Start);
        assert_ne!(one, other);
        assert_ne!(one, Noise::new(9, vec![17]).normal(&[1, 3, 5], Device::Cpu, Stream::Churn));
    }

    #[test]
    fn uniform_numbers_fill_the_unit_interval_and_belong_to_their_sample() {
        let u = Noise::new(9, (0..400).collect()).uniform(&[400, 50], Device::Cpu, Stream::Own);
        let values: Vec<f32> = Vec::try_from(u.view(-1)).unwrap();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let below = values.iter().filter(|&&v| v < 0.25).count() as f64 / n;
        assert!((mean - 0.5).abs() < 4.0 * (1.0 / 12.0 / n).sqrt() && (below - 0.25).abs() < 0.013, "{mean} {below}");
        assert_eq!(Noise::new(9, vec![17]).uniform(&[1, 50], Device::Cpu, Stream::Own).get(0), u.get(17));
    }

    #[test]
    fn filling_in_pieces_of_whole_blocks_equals_filling_at_once() {
        let (mut all, mut parts) = (vec![0.0; 300], vec![0.0; 300]);
        Draws::at(1, 2, 3, Stream::Eps).fill_normal(&mut all);
        let mut d = Draws::at(1, 2, 3, Stream::Eps);
        let (a, b) = parts.split_at_mut(132);
        d.fill_normal(a);
        d.fill_normal(b);
        assert_eq!(all, parts);
    }

    #[test]
    fn permutations_are_permutations_and_below_is_in_range() {
        let mut seen = Draws::at(1, 0, 0, Stream::Order).permutation(1000);
        assert_ne!(seen, Draws::at(1, 0, 1, Stream::Order).permutation(1000));
        seen.sort_unstable();
        assert!(seen.iter().enumerate().all(|(i, &v)| i == v));
        let mut d = Draws::at(4, 0, 0, Stream::Order);
        let counts = (0..6000).fold([0; 6], |mut c, _| {
            c[usize::try_from(d.below(6)).unwrap()] += 1;
            c
        });
        assert!(counts.iter().all(|&c| (850..1150).contains(&c)), "{counts:?}");
    }
}

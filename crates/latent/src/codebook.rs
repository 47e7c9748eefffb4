//! Vector quantisation: latents that stand for the nearest of K learned codewords.

use crate::transport::squared_distances;
use pentimento_core::Draws;
use tch::{Kind, Tensor};

/// A count below which a mean has nothing to be a mean of.
const EPS: f64 = 1e-5;

/// Numbers of the nearest codewords by Euclidean distance.
///
/// # Shapes
/// - `z`: `[N, D]`, `codes`: `[K, D]`
/// - returns: `[N]` int64
pub fn nearest(z: &Tensor, codes: &Tensor) -> Tensor {
    let _guard = tch::no_grad_guard();
    squared_distances(z, codes).argmin(-1, false)
}

/// The value of `q` with the gradient of `z`: q is taken for z on the way back.
///
/// # Source
/// van den Oord et al. 2017 (arXiv 1711.00937), section 3.2.
pub fn straight_through(z: &Tensor, q: &Tensor) -> Tensor {
    // Added in this order the forward value is q to the bit.
    q.detach() + (z - z.detach())
}

/// The two latent terms of a vector-quantised autoencoder, means over all coordinates.
///
/// codebook = |sg(z) - q|^2,   commitment = |z - sg(q)|^2
///
/// The first moves codewords to their latents, the second latents to their codewords.
///
/// # Shapes
/// - `z`, `q`: `[N, D]`, latents and the codewords taken for them
///
/// # Source
/// van den Oord et al. 2017 (arXiv 1711.00937), eq. 3.
pub fn latent_terms(z: &Tensor, q: &Tensor) -> [Tensor; 2] {
    let mean = |a: &Tensor, b: &Tensor| (a - b).square().mean(Kind::Float);
    [mean(&z.detach(), q), mean(z, &q.detach())]
}

/// How often each of K codewords was taken, `[K]` in f64.
pub fn usage(index: &Tensor, k: i64) -> Tensor {
    index.flatten(0, -1).bincount(None::<&Tensor>, k).to_kind(Kind::Double)
}

/// What codewords stand for, to look at: how often each was taken, `[K]`, and the mean of the square cells of the pictures at which
/// it was, `[K, C, side, side]`; zero where it never was.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`, `index`: `[B (H / side) (W / side)]`, cell after cell along the rows of one picture after another
pub fn mean_cells(x: &Tensor, index: &Tensor, k: i64, side: i64) -> (Tensor, Tensor) {
    let c = x.size()[1];
    let cells = x.unfold(2, side, side).unfold(3, side, side); // [B, C, H / side, W / side, side, side]
    let cells = cells.permute([0, 2, 3, 1, 4, 5]).reshape([-1, c, side, side]);
    let usage = usage(index, k);
    let sums = Tensor::zeros([k, c, side, side], (x.kind(), x.device())).index_add(0, index, &cells);
    let means = sums / usage.clamp_min(1.0).to_kind(x.kind()).view([-1, 1, 1, 1]);
    (usage, means)
}

/// exp of the entropy of the shares: the number of codewords in use, were they used equally. Between 1 and K.
///
/// # Shapes
/// - `usage`: `[K]`, counts
pub fn perplexity(usage: &Tensor) -> f64 {
    let p = usage / usage.sum(Kind::Double);
    // 0 ln 0 = 0.
    let entropy = -(&p * p.clamp_min(f64::MIN_POSITIVE).log()).sum(Kind::Double);
    entropy.exp().double_value(&[])
}

/// Codewords that are moving means of the latents they stand for, and begin anew where they stand for too few.
///
/// n_k <- gamma n_k + (1 - gamma) #{ i : k nearest to z_i },   m_k <- gamma m_k + (1 - gamma) sum of those z_i
/// c_k = m_k / n_k
///
/// A codeword whose n_k falls below `least` is put on a latent of the batch, with n_k = `least`.
///
/// # Source
/// van den Oord et al. 2017 (arXiv 1711.00937), appendix A.1; the restarts are those of Dhariwal et al. 2020 (arXiv 2005.00341),
/// section 3.1.
#[derive(Debug)]
pub struct MovingCodebook {
    /// c, `[K, D]`.
    pub codes: Tensor,
    counts: Tensor,
    sums: Tensor,
    /// gamma.
    decay: f64,
    /// Below this count per batch a codeword begins anew; 0 = never.
    least: f64,
}

impl MovingCodebook {
    /// From first codewords `[K, D]`, each with a count of one.
    pub fn new(codes: Tensor, decay: f64, least: f64) -> Self {
        let counts = codes.select(1, 0).ones_like();
        Self { sums: codes.copy(), codes, counts, decay, least }
    }

    /// One step after a batch: latents, the numbers of their codewords, and what says where dead codewords begin anew.
    ///
    /// # Shapes
    /// - `z`: `[N, D]`, `index`: `[N]`
    ///
    /// # Panics
    /// On an empty batch.
    pub fn update(&mut self, z: &Tensor, index: &Tensor, draws: &mut Draws) {
        let _guard = tch::no_grad_guard();
        let (n, k) = (z.size()[0], self.codes.size()[0]);
        assert!(n > 0, "no latents to move codewords to");
        let blend = |old: &Tensor, new: Tensor| old * self.decay + new * (1.0 - self.decay);
        let counts = blend(&self.counts, usage(index, k).to_kind(z.kind()));
        let sums = blend(&self.sums, self.sums.zeros_like().index_add(0, index, z));
        // What nothing has joined for long keeps its place.
        let codes = (&sums / counts.clamp_min(EPS).unsqueeze(1)).where_self(&counts.gt(EPS).unsqueeze(1), &self.codes);

        let order = draws.permutation(usize::try_from(n).unwrap_or(0));
        let places: Vec<i64> = order.iter().cycle().zip(0..k).map(|(&i, _)| i64::try_from(i).unwrap_or(0)).collect();
        let fresh = z.index_select(0, &Tensor::from_slice(&places).to_device(z.device()));
        let dead = counts.lt(self.least);
        let rows = dead.unsqueeze(1);
        self.codes.copy_(&fresh.where_self(&rows, &codes));
        self.sums.copy_(&(fresh * self.least).where_self(&rows, &sums));
        self.counts.copy_(&counts.masked_fill(&dead, self.least));
    }

    /// Visits what must be saved, by name.
    pub fn visit_state(&self, visit: &mut dyn FnMut(&str, &Tensor)) {
        visit("codes", &self.codes);
        visit("counts", &self.counts);
        visit("sums", &self.sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pentimento_core::Stream;
    use pentimento_core::noise::init_normal;
    use tch::Device;

    fn draw(name: &str, size: &[i64]) -> Tensor {
        init_normal(3, name, size)
    }

    fn largest(t: &Tensor) -> f64 {
        t.abs().max().double_value(&[])
    }

    fn draws() -> Draws {
        Draws::at(1, 0, 0, Stream::Own)
    }

    #[test]
    fn the_nearest_is_found_and_codewords_are_their_own() {
        let (z, codes) = (draw("z", &[50, 3]), draw("c", &[7, 3]));
        let found: Vec<i64> = Vec::try_from(nearest(&z, &codes)).unwrap();
        for (i, k) in (0..50).zip(found) {
            let to = |k: i64| (z.get(i) - codes.get(k)).square().sum(Kind::Double).double_value(&[]);
            assert!((0..7).all(|other| to(k) <= to(other) + 1e-6));
        }
        assert_eq!(Vec::<i64>::try_from(nearest(&codes, &codes)).unwrap(), (0..7).collect::<Vec<_>>());
    }

    /// sum(w q) with q = Q(z): dz is w, dq nothing; the two latent terms reach one side each, with 2 (z - q) / (N D).
    #[test]
    fn gradients_go_where_the_stops_let_them() {
        let [z, q, w] = ["z", "q", "w"].map(|name| draw(name, &[4, 3]));
        let fresh = || [&z, &q].map(|t| t.copy().set_requires_grad(true));
        let [za, qa] = fresh();
        let through = straight_through(&za, &qa);
        assert_eq!(through, q, "to the bit");
        (through * &w).sum(Kind::Float).backward();
        assert!(largest(&(za.grad() - &w)) < 1e-7 && !qa.grad().defined());

        let want = (&z - &q) * (2.0 / 12.0);
        let [za, qa] = fresh();
        let [codebook, commitment] = latent_terms(&za, &qa);
        codebook.backward();
        assert!(largest(&(qa.grad() + &want)) < 1e-6 && !za.grad().defined());
        commitment.backward();
        assert!(largest(&(za.grad() - &want)) < 1e-6 && largest(&(qa.grad() + &want)) < 1e-6);
    }

    /// python3 -c "from math import *; p = [.5, .25, .25]; print(exp(-sum(q * log(q) for q in p)))" = 2 sqrt 2
    #[test]
    fn perplexity_counts_codewords_in_equal_use() {
        let of = |index: &[i64], k| perplexity(&usage(&Tensor::from_slice(index), k));
        assert!((of(&[0, 1, 2, 3, 3, 2, 1, 0], 4) - 4.0).abs() < 1e-12);
        assert!((of(&[5, 5, 5], 9) - 1.0).abs() < 1e-12);
        assert!((of(&[0, 0, 1, 2], 8) - 8.0_f64.sqrt()).abs() < 1e-12, "unused ones change nothing");
        assert!((of(&(0..512).collect::<Vec<_>>(), 512) - 512.0).abs() < 1e-9);
    }

    /// Two pictures of 2 x 4 pixels, four cells in all; pixels of a cell keep their order.
    #[test]
    fn cells_go_to_their_codewords() {
        let x = Tensor::arange(16, (Kind::Float, Device::Cpu)).view([2, 1, 2, 4]);
        let (usage, cells) = mean_cells(&x, &Tensor::from_slice(&[2_i64, 0, 2, 2]), 3, 2);
        assert_eq!(Vec::<f64>::try_from(usage).unwrap(), [1.0, 0.0, 3.0]);
        let of = |k| Vec::<f64>::try_from(cells.get(k).view(-1)).unwrap();
        assert_eq!((of(0), of(1)), (vec![2.0, 3.0, 6.0, 7.0], vec![0.0; 4]));
        // (0 + 8 + 10) / 3 and on
        assert_eq!(of(2), [6.0, 7.0, 10.0, 11.0]);
    }

    /// Two steps by hand at gamma = 1/2, from counts of one.
    #[test]
    fn means_move_as_the_recursion_says() {
        let mut book = MovingCodebook::new(Tensor::from_slice(&[0.0_f32, 10.0]).view([2, 1]), 0.5, 0.0);
        let z = Tensor::from_slice(&[1.0_f32, 3.0, 2.0, 8.0]).view([4, 1]);
        let mut step = |z: &Tensor| {
            book.update(z, &nearest(z, &book.codes.copy()), &mut draws());
            Vec::<f64>::try_from(book.codes.view(-1)).unwrap()
        };
        // n = (1/2 + 3/2, 1/2 + 1/2), m = (0 + 6/2, 10/2 + 8/2)
        assert_eq!(step(&z), [1.5, 9.0]);
        // n = (2/2 + 1/2, 1/2), m = (3/2 + 3/2, 9/2): without members its place stays
        assert_eq!(step(&z.narrow(0, 1, 1)), [2.0, 9.0]);
    }

    /// At rest every codeword is the mean of its cell: the fixed point of k-means.
    #[test]
    fn at_rest_codewords_are_the_means_of_their_cells() {
        let z = draw("z", &[300, 2]);
        let mut book = MovingCodebook::new(z.narrow(0, 0, 5).copy(), 0.5, 0.0);
        for _ in 0..200 {
            book.update(&z, &nearest(&z, &book.codes.copy()), &mut draws());
        }
        let index = nearest(&z, &book.codes);
        for k in 0..5 {
            let members = z.index_select(0, &index.eq(k).nonzero().view(-1));
            assert!(largest(&(members.mean_dim(0, false, Kind::Float) - book.codes.get(k))) < 1e-4, "{k}");
        }
    }

    /// A codeword far from everything is put on a latent after its count has run down; the other is not touched by that.
    #[test]
    fn dead_codewords_begin_anew_on_latents_and_living_ones_do_not() {
        let z = draw("z", &[40, 2]);
        let first = || Tensor::from_slice(&[0.0_f32, 0.0, 99.0, 99.0]).view([2, 2]);
        let after = |least: f64, steps| {
            let mut book = MovingCodebook::new(first(), 0.9, least);
            for _ in 0..steps {
                book.update(&z, &nearest(&z, &book.codes.copy()), &mut draws());
            }
            book
        };
        let never = after(0.0, 2000).codes.get(1) - first().get(1);
        assert!(largest(&never) < 1e-3, "it has not drifted either: {never:?}");
        // 0.9^6 = 0.531, 0.9^7 = 0.478
        let (before, then) = (after(0.5, 6), after(0.5, 7));
        assert!(largest(&(before.codes.get(1) - first().get(1))) < 1e-3);
        let distance = squared_distances(&then.codes.narrow(0, 1, 1), &z).min().double_value(&[]);
        assert!(distance < 1e-6 && (then.counts.double_value(&[1]) - 0.5).abs() < 1e-6);
        assert_eq!(then.codes.get(0), after(0.0, 7).codes.get(0));
        assert!(largest(&(&then.sums / then.counts.unsqueeze(1) - &then.codes)) < 1e-5);
        let used = usage(&nearest(&z, &after(0.5, 30).codes), 2);
        assert!(used.min().double_value(&[]) > 0.0, "both in use");
        assert_eq!(then.codes.device(), Device::Cpu);
    }

    #[test]
    fn more_codewords_than_latents_begin_anew_too() {
        let z = draw("z", &[2, 3]);
        let mut book = MovingCodebook::new(draw("c", &[5, 3]) + 50.0, 0.5, 10.0);
        book.update(&z, &nearest(&z, &book.codes.copy()), &mut draws());
        assert!(squared_distances(&book.codes, &z).min_dim(1, false).0.max().double_value(&[]) < 1e-6);
    }
}

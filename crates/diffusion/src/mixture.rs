use pentimento_core::{Condition, Denoised, Denoiser, Draws, Level, Noise, Stream};
use tch::{Kind, Tensor};

/// A mixture of round Gaussians: data whose denoiser, density and score are known exactly at every level of noise.
///
/// Under a class condition y the data is component y alone, so that guidance is exact too. Computes in f64 and answers in
/// the kind of the question.
#[derive(Debug)]
pub struct GaussianMixture {
    log_weights: Tensor, // [K]
    means: Tensor,       // [K, D]
    variances: Tensor,   // [K]
}

impl GaussianMixture {
    /// # Panics
    /// When the parts have different lengths or a weight is not positive.
    pub fn new(weights: &[f64], means: &[Vec<f64>], deviations: &[f64]) -> Self {
        let (k, dim) = (means.len(), means.first().map_or(0, Vec::len));
        assert!(
            weights.len() == k && deviations.len() == k && means.iter().all(|m| m.len() == dim),
            "a ragged mixture"
        );
        assert!(weights.iter().all(|&w| w > 0.0), "weights must be above 0: {weights:?}");
        let total: f64 = weights.iter().sum();
        let flat: Vec<f64> = means.iter().flatten().copied().collect();
        let size = [i64::try_from(k).unwrap_or(0), i64::try_from(dim).unwrap_or(0)];
        Self {
            log_weights: Tensor::from_slice(&weights.iter().map(|w| (w / total).ln()).collect::<Vec<_>>()),
            means: Tensor::from_slice(&flat).view(size),
            variances: Tensor::from_slice(&deviations.iter().map(|s| s * s).collect::<Vec<_>>()),
        }
    }

    /// Log of (weight times density) of each component at a state, and the parts they are made of.
    fn components(&self, x: &Tensor, level: &Level, c: &Condition) -> Components {
        let x = x.flatten(1, -1).to_kind(Kind::Double); // [B, D]
        let (b, dim) = (x.size()[0], self.means.size()[1]);
        let column = |v: &[f64]| Tensor::from_slice(v).view([-1, 1]).to_device(x.device()); // [B or 1, 1]
        let (alpha, sigma) = (column(&level.alpha), column(&level.sigma));
        let means = self.means.to_device(x.device());
        let variances = self.variances.to_device(x.device());
        let total = alpha.square() * &variances + sigma.square(); // [B or 1, K]
        let offset = x.unsqueeze(1) - alpha.unsqueeze(-1) * means.unsqueeze(0); // [B, K, D]
        let distance = offset.square().sum_dim_intlist(-1_i64, false, Kind::Double); // [B, K]
        let log_normal = (distance / &total + (&total * std::f64::consts::TAU).log() * dim as f64) * -0.5;
        let mut log_weights = self.log_weights.to_device(x.device()).unsqueeze(0).expand([b, -1], false);
        if let Some(y) = &c.y {
            let y = y.to_device(x.device()).unsqueeze(1); // [B, 1]
            let k = Tensor::arange(self.means.size()[0], (Kind::Int64, x.device())).unsqueeze(0);
            let own = y.eq_tensor(&k).to_kind(Kind::Double).log(); // 0 for the class, -inf elsewhere
            log_weights = own.where_self(&y.ge(0), &log_weights);
        }
        let shrink = &alpha * &variances / &total; // [B or 1, K]
        Components { log_joint: log_normal + log_weights, offset, means, shrink, total }
    }

    /// ln p(xt), `[B]` in f64.
    pub fn log_density(&self, x: &Tensor, level: &Level) -> Tensor {
        self.components(x, level, &Condition::none()).log_joint.logsumexp(1_i64, false)
    }

    /// grad ln p(xt), in the shape of x and f64.
    pub fn score(&self, x: &Tensor, level: &Level) -> Tensor {
        let parts = self.components(x, level, &Condition::none());
        let share = parts.log_joint.softmax(1, Kind::Double) / &parts.total; // [B, K]
        (share.unsqueeze(-1) * parts.offset).sum_dim_intlist(1_i64, false, Kind::Double).neg().view(x.size().as_slice())
    }

    /// Samples with their components, `[B, D]` in f64 and `[B]`; row i belongs to sample i.
    pub fn draw(&self, noise: &Noise) -> (Tensor, Tensor) {
        let weights = Vec::<f64>::try_from(self.log_weights.exp()).unwrap_or_default();
        let pick = |sample: &u64| {
            let mut u = Draws::at(noise.seed(), *sample, u32::MAX, Stream::World).uniform(); // apart from the normals
            let found = weights.iter().position(|w| {
                u -= w;
                u < 0.0
            });
            i64::try_from(found.unwrap_or(weights.len() - 1)).unwrap_or(0)
        };
        let y = Tensor::from_slice(&noise.samples().iter().map(pick).collect::<Vec<i64>>());
        let (means, variances) = (self.means.index_select(0, &y), self.variances.index_select(0, &y));
        let z = noise.normal_like(&means, Stream::World);
        (means + variances.sqrt().unsqueeze(1) * z, y)
    }
}

struct Components {
    log_joint: Tensor, // [B, K]
    offset: Tensor,    // [B, K, D]
    means: Tensor,     // [K, D]
    shrink: Tensor,    // [B or 1, K]
    total: Tensor,     // [B or 1, K]
}

impl Denoiser for GaussianMixture {
    /// E[x0 | xt] = sum over k of p(k | xt) (mean_k + alpha var_k / (alpha^2 var_k + sigma^2) (xt - alpha mean_k)).
    fn denoise(&self, x: &Tensor, level: &Level, c: &Condition) -> Denoised {
        let parts = self.components(x, level, c);
        let share = parts.log_joint.softmax(1, Kind::Double); // [B, K]
        let each = parts.means.unsqueeze(0) + parts.shrink.unsqueeze(-1) * parts.offset; // [B, K, D]
        let x0 = (share.unsqueeze(-1) * each).sum_dim_intlist(1_i64, false, Kind::Double);
        Denoised { x0: x0.view(x.size().as_slice()).to_kind(x.kind()), variance: None }
    }
}

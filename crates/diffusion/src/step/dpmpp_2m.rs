use super::contract::{History, Step, per_entry};
use pentimento_core::{Condition, Denoiser, Level, Noise};
use tch::Tensor;

/// DPM-Solver++ (2M): x' = (sigma'/sigma) x + (alpha' - alpha sigma'/sigma) D with
/// D = x0_hat + (h / 2 h_last) (x0_hat - last x0_hat) and h the step in ln(alpha / sigma).
///
/// Second order, one evaluation. First order (DDIM) where no extrapolation exists: at the first step, after a start at
/// alpha = 0 (h_last infinite) and at the last step to sigma = 0 (h infinite).
///
/// # Source
/// Lu et al. 2022 (arXiv 2211.01095), algorithm 2.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dpmpp2m;

impl Step for Dpmpp2m {
    fn step(&self, d: &dyn Denoiser, x: &Tensor, from: &Level, to: &Level, h: History, _: &Noise) -> (Tensor, History) {
        let x0_hat = d.denoise(x, from, &Condition::none()).x0;
        let keep = per_entry(from, to, |[_, s], [_, z]| z / s);
        let take = per_entry(from, to, |[a, s], [b, z]| b - a * z / s);
        let next = match (&h.x0, &h.level) {
            (Some(last), Some(before)) => {
                let step = half_logsnr_step(from, to);
                let share: Vec<f64> = half_logsnr_step(before, from)
                    .iter()
                    .zip(&step)
                    .map(|(past, now)| extrapolation(*past, *now))
                    .collect();
                let weighted: Vec<f64> = take.iter().zip(&share).map(|(t, s)| t * s).collect();
                Level::times(&keep, x) + Level::times(&take, &x0_hat) + Level::times(&weighted, &(&x0_hat - last))
            }
            _ => Level::times(&keep, x) + Level::times(&take, &x0_hat),
        };
        (next, History::of(x0_hat, from))
    }

    fn order(&self) -> u32 {
        2
    }
}

/// Change of ln(alpha / sigma) per entry.
fn half_logsnr_step(from: &Level, to: &Level) -> Vec<f64> {
    per_entry(from, to, |[a, s], [b, z]| (b / z).ln() - (a / s).ln())
}

/// h / (2 h_last), 0 where either is infinite.
fn extrapolation(past: f64, now: f64) -> f64 {
    if past.is_finite() && now.is_finite() { 0.5 * now / past } else { 0.0 }
}

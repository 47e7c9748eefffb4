use crate::recipe::Schedule;

/// Learning rate at a number of images seen: a linear rise over `warmup`, then constant or half a cosine to zero at `total`.
pub fn learning_rate(images: u64, peak: f64, warmup: u64, total: u64, schedule: Schedule) -> f64 {
    if images < warmup {
        return peak * (images as f64 / warmup as f64);
    }
    match schedule {
        Schedule::Constant => peak,
        Schedule::Cosine => {
            let done = (images - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
            peak * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
        }
    }
}

/// Weight of the newest parameters in the moving average after a step of `batch` images.
///
/// 1 - 2^(-batch / halflife), with the half-life held below a twentieth of the images seen so that the start is forgotten.
///
/// # Source
/// The ramp is that of Karras et al. 2022 (arXiv 2206.00364, `ema_rampup_ratio` = 0.05 in their code).
pub fn ema_weight(images: u64, batch: usize, halflife: u64) -> f64 {
    let halflife = (halflife as f64).min(images as f64 * 0.05);
    if halflife <= 0.0 { 1.0 } else { -f64::exp_m1(-std::f64::consts::LN_2 * batch as f64 / halflife) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_holds_and_falls() {
        let lr = |n| learning_rate(n, 2.0, 100, 1100, Schedule::Cosine);
        assert!(lr(0).abs() < 1e-15 && (lr(50) - 1.0).abs() < 1e-12 && (lr(100) - 2.0).abs() < 1e-12);
        assert!((lr(600) - 1.0).abs() < 1e-12 && lr(1100).abs() < 1e-12 && lr(5000).abs() < 1e-12);
        assert!((learning_rate(700, 2.0, 100, 1100, Schedule::Constant) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn after_one_halflife_the_old_weights_count_half() {
        let old = (0..100).fold(1.0, |left, _| left * (1.0 - ema_weight(10_000_000, 10, 1000)));
        assert!((old - 0.5_f64).abs() < 1e-12);
        assert!((ema_weight(0, 10, 1000) - 1.0).abs() < 1e-12, "the first step forgets the start");
        assert!(ema_weight(1000, 10, 1000) > ema_weight(100_000, 10, 1000));
    }
}

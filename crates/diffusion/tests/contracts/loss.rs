use crate::fakes::{FakeNetwork, PATHS, gap, normal};
use pentimento_core::{At, Batch, HostBatch, Level, NO_LABEL, Noise, Objective, Params, SingleLoss, Stream};
use pentimento_diffusion::{
    DiffusionLoss, LossConfig, MAX_GAIN, Parametrised, Path, Preconditioning, Prediction, Spread, Times, Weighting,
};
use tch::{Device, Kind, Tensor};

const AT: At = At { seed: 0, step: 0, images: 0 };

fn batch(t: &[f64]) -> Batch {
    let n = i64::try_from(t.len()).unwrap();
    Batch {
        x: normal(1, &[n, 1, 2, 3]),
        y: None,
        factors: None,
        index: (0..t.len() as u64).collect(),
        first: 0,
        t: t.to_vec(),
        eps: Some(normal(2, &[n, 1, 2, 3])),
    }
}

/// The loss of the network f(x) = 0.3 x.
fn loss(path: Path, prediction: Prediction, around: Preconditioning, config: LossConfig) -> DiffusionLoss {
    let network = FakeNetwork::boxed(|x, _| x * 0.3);
    let d = Parametrised::new(network, path, prediction).preconditioned(around);
    DiffusionLoss::new(d, Params::new(Device::Cpu, 0), config)
}

fn mean_square(error: &Tensor) -> Tensor {
    error.square().flatten(1, -1).mean_dim(1_i64, false, Kind::Double)
}

#[test]
fn the_error_may_be_measured_in_any_prediction() {
    let t = [0.2, 0.5, 0.8];
    for path in PATHS {
        for from in Prediction::ALL {
            for to in Prediction::ALL {
                let config = LossConfig { target: Some(to), ..LossConfig::default() };
                let (b, l) = (batch(&t), loss(path, from, Preconditioning::None, config));
                let eps = b.eps.as_ref().unwrap();
                let level = path.levels(&t);
                let xt = level.mix(&b.x, eps);
                let by_hand =
                    mean_square(&(from.convert(to, &(&xt * 0.3), &xt, &level) - to.target(&b.x, eps, &level)));
                let gain = level.map(|a, s| l.denoiser().gain(to, a, s).abs());
                let cut =
                    Level::times(&gain.iter().map(|g| (g.min(MAX_GAIN) / g).powi(2)).collect::<Vec<_>>(), &by_hand);
                let scale = 1.0 + cut.abs().max().double_value(&[]);
                assert!(gap(&l.per_sample(&b), &cut) < 1e-9 * scale, "{path} {from} {to}");
            }
        }
    }
}

/// The x0 error times min(SNR, gamma), whatever the network predicts.
#[test]
fn min_snr_and_edm_weigh_the_error_of_the_data() {
    let t = [0.1, 0.4, 0.9];
    for path in PATHS {
        let level = path.levels(&t);
        for from in Prediction::ALL {
            for around in [Preconditioning::None, Preconditioning::Edm { sigma_data: 0.5 }] {
                for weighting in [Weighting::MinSnr { gamma: 5.0 }, Weighting::Edm { sigma_data: 0.5 }] {
                    let config = LossConfig { weighting, ..LossConfig::default() };
                    let l = loss(path, from, around, config);
                    for (a, s) in level.alpha.iter().zip(&level.sigma) {
                        let snr = (a / s).powi(2);
                        let want = match weighting {
                            Weighting::MinSnr { gamma } => snr.min(gamma),
                            _ => snr + 4.0,
                        };
                        let got = l.factor(*a, *s) / l.denoiser().gain(Prediction::Sample, *a, *s).powi(2);
                        assert!((got / want - 1.0).abs() < 1e-10, "{path} {from} {around:?} {weighting}");
                    }
                }
            }
        }
    }
}

/// EDM's weight undoes c_out: the network's own error counts 1 at every level (Karras et al. 2022, section 5).
#[test]
fn edm_weighting_leaves_the_raw_error_alone() {
    let config = LossConfig { weighting: Weighting::Edm { sigma_data: 0.5 }, ..LossConfig::default() };
    let l = loss(Path::Edm, Prediction::Sample, Preconditioning::Edm { sigma_data: 0.5 }, config);
    for s in [1e-6, 0.002, 0.5, 3.0, 80.0] {
        assert!((l.factor(1.0, s) - 1.0).abs() < 1e-9, "{s}");
    }
}

#[test]
fn factors_are_finite_at_both_ends() {
    for path in PATHS {
        for from in Prediction::ALL {
            for weighting in [Weighting::Plain, Weighting::MinSnr { gamma: 5.0 }] {
                let config = LossConfig { weighting, target: Some(Prediction::Velocity), ..LossConfig::default() };
                let l = loss(path, from, Preconditioning::None, config);
                for t in [0.0, 1.0] {
                    assert!(l.factor(path.alpha(t), path.sigma(t)).is_finite(), "{path} {from} {weighting} {t}");
                }
            }
        }
    }
}

/// d/dw mean (w x - target)^2 by hand.
#[test]
fn gradients_reach_the_network() {
    let params = Params::new(Device::Cpu, 0);
    let w = params.root().tensor("w", Tensor::from(0.3_f64));
    let own = w.shallow_clone();
    let network = FakeNetwork::boxed(move |x, _| x * &own);
    let d = Parametrised::new(network, Path::Flow, Prediction::Velocity);
    let learner = SingleLoss::new(DiffusionLoss::new(d, params, LossConfig::default()), Kind::Float);
    let b = batch(&[0.3, 0.6]);
    let total = learner.objective().loss(&b, &AT);
    assert_eq!(total.0[0].0, "diffusion");
    total.total().backward();
    let eps = b.eps.as_ref().unwrap();
    let xt = Path::Flow.levels(&b.t).mix(&b.x, eps);
    let by_hand = ((&xt * 0.3 - (eps - &b.x)) * &xt * 2.0).mean(Kind::Double);
    assert!(gap(&w.grad(), &by_hand) < 1e-12);
}

fn host(first: u64, n: usize) -> HostBatch {
    HostBatch {
        x: vec![0.5; n * 4],
        shape: [n, 1, 2, 2],
        y: vec![3; n],
        index: (0..n as u64).map(|i| (first + i) * 7 % 1000).collect(),
        first,
        ..HostBatch::default()
    }
}

#[test]
fn draws_are_addressed_by_the_running_number() {
    let config = LossConfig { times: Times::LogitNormal { mean: 0.0, std: 1.0 }, ..LossConfig::default() };
    for spread in [Spread::Independent, Spread::Stratified] {
        let draw = loss(Path::Flow, Prediction::Velocity, Preconditioning::None, LossConfig { spread, ..config })
            .draw()
            .unwrap();
        let (mut all, mut late) = (host(100, 8), host(105, 3));
        draw.draw(&mut all, 9);
        draw.draw(&mut late, 9);
        assert_eq!((&all.t[5..], &all.eps[20..], &all.y[5..]), (&late.t[..], &late.eps[..], &late.y[..]));
        let noise = Noise::new(9, (100..108).collect()).normal(&[8, 1, 2, 2], Device::Cpu, Stream::Eps);
        assert_eq!(Vec::<f32>::try_from(noise.flatten(0, -1)).unwrap(), all.eps);
        let mut other = host(100, 8);
        draw.draw(&mut other, 10);
        assert!(other.t != all.t && other.eps != all.eps);
    }
}

#[test]
fn labels_are_dropped_at_the_given_rate() {
    let make = |label_dropout| {
        loss(
            Path::Flow,
            Prediction::Velocity,
            Preconditioning::None,
            LossConfig { label_dropout, ..LossConfig::default() },
        )
    };
    let dropped = |rate| {
        let mut b = host(0, 4000);
        make(rate).draw().unwrap().draw(&mut b, 1);
        b.y.iter().filter(|&&y| y == NO_LABEL).count()
    };
    assert_eq!((dropped(0.0), dropped(1.0)), (0, 4000));
    assert!((340..460).contains(&dropped(0.1)), "{}", dropped(0.1));
    let mut b = host(0, 4000);
    make(0.5).validation_draw().draw(&mut b, 1);
    assert!(b.y.iter().all(|&y| y == 3));
}

#[test]
fn validation_meets_the_same_noise_in_any_order() {
    let draw = loss(Path::Flow, Prediction::Velocity, Preconditioning::None, LossConfig::default()).validation_draw();
    let (mut a, mut b) = (host(0, 5), host(0, 5));
    b.index.reverse();
    b.first = 777;
    draw.draw(&mut a, 2);
    draw.draw(&mut b, 2);
    a.t.reverse();
    assert_eq!(a.t, b.t);
    assert_eq!(a.eps[..4], b.eps[16..]);
}

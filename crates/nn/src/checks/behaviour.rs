//! What the networks promise of themselves.

use super::reference::close;
use crate::label::NullLabel;
use crate::layers::Layout;
use crate::{CnnConfig, DitConfig, NetworkConfig, UnetConfig, open_gates};
use pentimento_core::{Condition, Network, Params, noise};
use pentimento_torch_shim::{Autocast, is_channels_last, own_products};
use tch::{Device, Kind, Tensor};

fn dit() -> NetworkConfig {
    NetworkConfig::Dit(DitConfig::sized([2, 32, 2, 4]))
}

fn unet() -> UnetConfig {
    UnetConfig {
        channels: Some(16),
        mult: Some(vec![1.0, 2.0]),
        blocks: Some(1),
        attention: Some(vec![2]),
        groups: Some(8),
        ..UnetConfig::default()
    }
}

fn open(config: &NetworkConfig) -> (Params, Box<dyn Network>) {
    let params = Params::new(Device::Cpu, 1);
    let network = config.build(&params.root(), [3, 8, 8], 4).unwrap();
    open_gates(&params, 2);
    (params, network)
}

fn picture(batch: i64) -> (Tensor, Tensor, Condition) {
    let x = noise::init_normal(9, "x", &[batch, 3, 8, 8]);
    let t = Tensor::linspace(1.0, 900.0, batch, (Kind::Float, Device::Cpu));
    (x, t, Condition { y: Some(Tensor::arange(batch, (Kind::Int64, Device::Cpu)) - 1), c: None })
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    for config in [dit(), NetworkConfig::Unet(unet())] {
        let (_params, network) = open(&config);
        let (x, t, c) = picture(4);
        let whole = network.forward(&x, &t, &c);
        for i in 0..4 {
            let y = c.y.as_ref().map(|y| y.narrow(0, i, 1));
            let one = network.forward(&x.narrow(0, i, 1), &t.narrow(0, i, 1), &Condition { y, c: None });
            close("row", &one, &whole.narrow(0, i, 1), 1e-5);
        }
    }
}

#[test]
fn a_large_batch_shared_out_by_samples_is_that_of_one_pass() {
    let (_params, network) = open(&dit());
    // 16 tokens a picture: for every thread two shares of sixteen and one of two.
    let batch = 34 * i64::from(tch::get_num_threads());
    let (x, t, _) = picture(batch);
    let c = Condition { y: Some(Tensor::arange(batch, (Kind::Int64, Device::Cpu)).remainder(4)), c: None };
    let run = || {
        let mut blocks = Vec::new();
        let y = network.forward_with(&x, &t, &c, &mut |_, h| blocks.push(h.detach()));
        blocks.push(y.detach());
        blocks
    };
    let whole = run();
    let shared = tch::no_grad(run);
    assert!(whole.len() > 2 && whole.len() == shared.len());
    for (a, b) in shared.iter().zip(&whole) {
        close("a block", a, b, 1e-5);
    }
}

#[test]
fn weights_that_stand_say_the_same_of_every_picture() {
    // Wide enough for Strassen's products; shares of sixteen pictures, and pictures alone.
    let (params, network) = open(&NetworkConfig::Dit(DitConfig::sized([2, 256, 2, 4])));
    let batch = 34 * i64::from(tch::get_num_threads());
    let (x, t, _) = picture(batch);
    let y = Tensor::arange(batch, (Kind::Int64, Device::Cpu)).remainder(4);
    let run = |from, n| {
        let c = Condition { y: Some(y.narrow(0, from, n)), c: None };
        tch::no_grad(|| network.forward(&x.narrow(0, from, n), &t.narrow(0, from, n), &c))
    };
    let plain = run(0, batch);
    let _standing = params.stand();
    let whole = run(0, batch);
    close("standing", &whole, &plain, 1e-5);
    assert!(!own_products() || whole != plain, "other products have other last bits");
    for i in [0, 17, batch - 1] {
        close("alone", &run(i, 1), &whole.narrow(0, i, 1), 1e-5);
    }
}

#[test]
fn adaln_zero_starts_as_the_identity_and_open_gates_do_not() {
    let params = Params::new(Device::Cpu, 1);
    let network = dit().build(&params.root(), [3, 8, 8], 4).unwrap();
    let (x, t, c) = picture(3);
    let run = || {
        let mut seen = Vec::new();
        let out = network.forward_with(&x, &t, &c, &mut |_, h| seen.push(h.shallow_clone()));
        (out.abs().max().double_value(&[]), (&seen[0] - &seen[1]).abs().max().double_value(&[]))
    };
    let (out, change) = run();
    assert!(out < 1e-12 && change < 1e-12, "{out} {change}");
    open_gates(&params, 5);
    let (out, change) = run();
    assert!(out > 0.1 && change > 0.1, "{out} {change}");
    // Opened by (seed, name): the same again elsewhere.
    let again = Params::new(Device::Cpu, 1);
    let _ = dit().build(&again.root(), [3, 8, 8], 4).unwrap();
    open_gates(&again, 5);
    assert!(params.entries().iter().zip(again.entries()).all(|(a, b)| a.tensor == b.tensor));
}

#[test]
fn a_fresh_unet_says_zero_and_an_open_one_does_not() {
    let params = Params::new(Device::Cpu, 1);
    let network = NetworkConfig::Unet(unet()).build(&params.root(), [3, 8, 8], 4).unwrap();
    let (x, t, c) = picture(2);
    assert!(network.forward(&x, &t, &c).abs().max().double_value(&[]) < 1e-12);
    open_gates(&params, 5);
    assert!(network.forward(&x, &t, &c).abs().max().double_value(&[]) > 0.1);
    assert!(params.entries().iter().all(|e| e.tensor.dim() < 2 || e.tensor.abs().max().double_value(&[]) > 0.0));
}

#[test]
fn learned_variance_doubles_the_channels_and_labels_matter() {
    let sigma = |config: NetworkConfig| match config {
        NetworkConfig::Dit(c) => NetworkConfig::Dit(DitConfig { learn_sigma: true, ..c }),
        NetworkConfig::Unet(c) => NetworkConfig::Unet(UnetConfig { learn_sigma: true, ..c }),
    };
    for config in [dit(), NetworkConfig::Unet(unet())] {
        let (x, t, c) = picture(3);
        let (_params, network) = open(&sigma(config.clone()));
        assert_eq!(network.forward(&x, &t, &c).size(), [3, 6, 8, 8]);
        let (_params, network) = open(&config);
        let out = network.forward(&x, &t, &c);
        assert_eq!(out.size(), [3, 3, 8, 8]);
        let none = network.forward(&x, &t, &c.dropped());
        let same = |i: i64| out.get(i).allclose(&none.get(i), 1e-6, 1e-6, false);
        assert!(same(0) && !same(1) && !same(2), "row 0 carries no label, the others do");
        assert_eq!(network.forward(&x, &t, &Condition::none()), none);
    }
}

/// Both layouts agree, and channels-last is kept from entry to exit.
#[test]
fn layouts_agree_and_are_kept() {
    let make = |layout| open(&NetworkConfig::Unet(UnetConfig { layout, null_label: NullLabel::Absent, ..unet() }));
    let ((_p, last), (_q, plain)) = (make(Layout::ChannelsLast), make(Layout::Contiguous));
    let (x, t, c) = picture(2);
    let out = last.forward_with(&x, &t, &c, &mut |name, h| assert!(is_channels_last(h), "{name}"));
    assert!(is_channels_last(&out));
    close("out", &out, &plain.forward(&x, &t, &c), 1e-5);
}

/// bf16 products over f32 weights: the same picture within bf16's three digits, and finite gradients in f32.
#[test]
fn networks_run_forward_and_back_in_bf16() {
    for config in [dit(), NetworkConfig::Unet(unet())] {
        let (params, network) = open(&config);
        let (x, t, c) = picture(2);
        let exact = network.forward(&x, &t, &c);
        let out = {
            let _autocast = Autocast::new(Device::Cpu, Kind::BFloat16).unwrap();
            network.forward(&x, &t, &c)
        };
        close("bf16", &out, &exact, 0.05);
        out.to_kind(Kind::Float).square().mean(Kind::Float).backward();
        for e in params.entries().iter().filter(|e| e.tensor.requires_grad()) {
            let g = e.tensor.grad();
            assert!(g.kind() == Kind::Float && g.isfinite().all().int64_value(&[]) == 1, "{}", e.name);
        }
    }
}

#[test]
fn the_judge_learns_where_and_what() {
    let config = CnnConfig { width: 8, features: 32, classes: 2, regressions: 2, ..CnnConfig::default() };
    let params = Params::new(Device::Cpu, 3);
    let judge = config.build(&params.root(), [1, 16, 16]).unwrap();
    // One bright or dark pixel: its sign is the class, its place the numbers.
    let (n, side) = (32_i64, 16_i64);
    let place = (Tensor::arange(n, (Kind::Int64, Device::Cpu)) * 37).remainder(side * side);
    let class = Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(2);
    let sign = (class.to_kind(Kind::Float) * 2.0 - 1.0).unsqueeze(1);
    let x = Tensor::zeros([n, side * side], (Kind::Float, Device::Cpu)).scatter(1, &place.unsqueeze(1), &(sign * 3.0));
    let x = x.view([n, 1, side, side]);
    let row = place.divide_scalar_mode(side, "floor").to_kind(Kind::Float) / 8.0 - 1.0;
    let column = place.remainder(side).to_kind(Kind::Float) / 8.0 - 1.0;
    let target = Tensor::stack(&[row, column], 1);
    let mut adam = pentimento_core::optim::AdamW::new(&params, Default::default());
    let mut last = (0.0, 0.0);
    for _ in 0..40 {
        let verdict = judge.forward(&x);
        assert_eq!(verdict.features.size(), [n, 32]);
        let error = (verdict.values.unwrap() - &target).square().mean(Kind::Float);
        let entropy = verdict.logits.unwrap().cross_entropy_for_logits(&class);
        (&error + &entropy).backward();
        let _ = adam.step(5e-3);
        last = (error.double_value(&[]), entropy.double_value(&[]));
    }
    assert!(last.0 < 0.02 && last.1 < 0.02, "{last:?}");
    assert_eq!(judge.features(&x), judge.forward(&x).features);
}

#[test]
fn judges_of_wrong_sizes_are_refused() {
    let say = |c: CnnConfig| c.check([1, 16, 16]).unwrap_err().to_string();
    assert_eq!(
        say(CnnConfig { width: 12, ..CnnConfig::default() }),
        "judge.width = 12; must be a multiple of 8, such as 8 or 16"
    );
    assert!(say(CnnConfig { classes: 0, ..CnnConfig::default() }).contains("at least one class or one regression"));
}

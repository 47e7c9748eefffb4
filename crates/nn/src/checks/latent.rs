//! A latent vector in a U-Net: where its sections act, what silence is, and that it costs nothing where it is not asked for.

use super::reference::close;
use crate::unet_config::Embedded;
use crate::{LatentConfig, NetworkConfig, UnetConfig, open_gates};
use pentimento_core::{Condition, Network, Params, noise};
use tch::{Device, Kind, Tensor};

const INPUT: [i64; 3] = [3, 8, 8];

fn config(latent: Option<LatentConfig>) -> UnetConfig {
    let [channels, blocks, groups] = [16, 1, 8].map(Some);
    UnetConfig { channels, blocks, groups, mult: Some(vec![1.0, 2.0]), latent, ..UnetConfig::default() }
}

fn open(config: &UnetConfig, classes: i64) -> (Params, Box<dyn Network>) {
    let params = Params::new(Device::Cpu, 1);
    let network = NetworkConfig::Unet(config.clone()).build(&params.root(), INPUT, classes).unwrap();
    open_gates(&params, 2);
    (params, network)
}

fn picture() -> (Tensor, Tensor) {
    (noise::init_normal(9, "x", &[2, 3, 8, 8]), Tensor::from_slice(&[3.0_f32, 700.0]))
}

fn told(z: &Tensor) -> Condition {
    Condition::vectors(z.shallow_clone())
}

/// Activations by block.
fn seen(network: &dyn Network, z: &Tensor) -> Vec<(String, Tensor)> {
    let (x, t) = picture();
    let mut all = Vec::new();
    let _ = network.forward_with(&x, &t, &told(z), &mut |name, h| all.push((name.to_owned(), h.copy())));
    all
}

/// Two levels and the middle, three sections: the first block that moves with a section is the first of its level.
#[test]
fn a_section_acts_in_its_own_level_first() {
    let (_params, network) = open(&config(Some(LatentConfig { width: 12, sections: 3 })), 0);
    let z = noise::init_normal(4, "z", &[2, 12]);
    let before = seen(network.as_ref(), &z);
    for (section, first) in [(0, "input_blocks.1"), (1, "input_blocks.3"), (2, "middle_block")] {
        let moved = z.copy();
        let _ = moved.narrow(1, 4 * section, 4).fill_(0.7);
        let after = seen(network.as_ref(), &moved);
        let changed = before.iter().zip(&after).find(|((_, a), (_, b))| a != b).unwrap();
        assert_eq!(changed.0.0, first, "section {section}");
    }
}

/// Each entry of the vector reaches exactly the layers of its section, on the way down and up.
#[test]
fn sections_have_the_layers_of_both_ways() {
    let latent = LatentConfig { width: 12, sections: 3 };
    let width = |params: &Params, name: &str| {
        let all = params.entries();
        all.iter().find(|e| e.name == format!("{name}.cond_emb_layers.1.weight")).unwrap().tensor.size()[1]
    };
    for (sections, each) in [(1, 12), (3, 4)] {
        let (params, _) = open(&config(Some(LatentConfig { sections, ..latent })), 0);
        for name in ["input_blocks.1.0", "input_blocks.3.0", "middle_block.0", "middle_block.2", "output_blocks.3.0"] {
            assert_eq!(width(&params, name), each);
        }
    }
    assert_eq!([0, 1, 2].map(|place| latent.section(place)), [[0, 4], [4, 4], [8, 4]]);
    assert_eq!([0, 1, 2].map(|place| LatentConfig { sections: 2, ..latent }.section(place)[0]), [0, 6, 6]);
    // Silence below full resolution: blocks at full resolution alone move the picture on the way up.
    let (params, network) = open(&config(Some(latent)), 0);
    let _guard = tch::no_grad_guard();
    for e in params.entries().iter().filter(|e| e.name.contains("cond_emb_layers")) {
        if !e.name.starts_with("output_blocks.2.") && !e.name.starts_with("output_blocks.3.") {
            let _ = e.tensor.shallow_clone().zero_();
        }
    }
    let z = noise::init_normal(4, "z", &[2, 12]);
    let moved = z.copy();
    let _ = moved.narrow(1, 0, 4).fill_(0.7);
    let (before, after) = (seen(network.as_ref(), &z), seen(network.as_ref(), &moved));
    let changed: Vec<&str> = before.iter().zip(&after).filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0.as_str()).collect();
    assert_eq!(changed, ["output_blocks.2", "output_blocks.3"]);
}

/// Layers that say zero leave every bit of the network without them, whose names and initial weights are the same.
#[test]
fn silent_layers_are_the_network_without_them() {
    for embedded in [Embedded::ScaleShift, Embedded::Added] {
        let with = |latent| UnetConfig { embedded: Some(embedded), ..config(latent) };
        let ((params, network), (plain, without)) =
            (open(&with(Some(LatentConfig { width: 6, sections: 2 })), 4), open(&with(None), 4));
        let _guard = tch::no_grad_guard();
        let mut extra = 0;
        for e in params.entries() {
            if e.name.contains("cond_emb_layers") {
                let _ = e.tensor.shallow_clone().zero_();
                extra += 1;
            } else {
                assert!(plain.entries().iter().any(|p| p.name == e.name && p.tensor == e.tensor), "{}", e.name);
            }
        }
        assert_eq!(params.entries().len() - extra, plain.entries().len());
        let (x, t) = picture();
        let y = Some(Tensor::from_slice(&[1_i64, 3]));
        let c = Condition { y, c: Some(noise::init_normal(4, "z", &[2, 6])) };
        let labels = Condition { c: None, ..c.clone() };
        assert_eq!(network.forward(&x, &t, &c), without.forward(&x, &t, &labels), "{embedded:?}");
    }
}

/// Scale and shift of time first, those of the latent on top; zeros are what stands for no vector at all.
#[test]
fn modulation_has_its_order_and_a_dropped_vector_is_none() {
    for embedded in [Embedded::ScaleShift, Embedded::Added] {
        let (_params, network) =
            open(&UnetConfig { embedded: Some(embedded), ..config(Some(LatentConfig { width: 6, sections: 1 })) }, 0);
        let (x, t) = picture();
        let c = told(&noise::init_normal(4, "z", &[2, 6]));
        let [with, dropped, none] = [&c, &c.dropped(), &Condition::none()].map(|c| network.forward(&x, &t, c));
        assert_eq!(dropped, none);
        assert!((with - none).abs().max().double_value(&[]) > 1e-2);
    }
    // One block by hand: (1 + z_s) ((1 + t_s) n + t_b) + z_b = n (1 + s) + b with the s and b that the network forms.
    let [ts, tb, zs, zb] = ["ts", "tb", "zs", "zb"].map(|n| noise::init_normal(3, n, &[2, 5]));
    let n = noise::init_normal(3, "n", &[2, 5]);
    let grown = &zs + 1.0;
    let (s, b) = (zs.addcmul(&ts, &grown), zb.addcmul(&tb, &grown));
    let want = (&zs + 1.0) * ((&ts + 1.0) * &n + &tb) + &zb;
    close("modulation", &(&n * (s + 1.0) + b), &want, 1e-6);
}

#[test]
fn every_latent_layer_learns_and_gradients_reach_the_vector() {
    let (params, network) = open(&config(Some(LatentConfig { width: 12, sections: 3 })), 0);
    let z = noise::init_normal(4, "z", &[2, 12]).set_requires_grad(true);
    let (x, t) = picture();
    network.forward(&x, &t, &told(&z)).square().mean(Kind::Float).backward();
    assert!(z.grad().abs().min().double_value(&[]) > 0.0);
    for e in params.entries().iter().filter(|e| e.name.contains("cond_emb_layers")) {
        assert!(e.tensor.grad().abs().max().double_value(&[]) > 0.0, "{}", e.name);
    }
}

#[test]
fn sections_that_do_not_fit_are_refused_and_absence_leaves_no_trace() {
    let say = |width, sections| config(Some(LatentConfig { width, sections })).plan(INPUT, 0).unwrap_err().to_string();
    assert!(
        say(12, 4).contains("network.unet.latent.sections = 4; must be 1 to 3, one for each level"),
        "{}",
        say(12, 4)
    );
    assert!(say(10, 3).contains("network.unet.latent.sections = 3 does not divide the width 10"), "{}", say(10, 3));
    let text = serde_json::to_string(&config(None)).unwrap();
    assert!(!text.contains("latent"), "settings of networks without one hash as before: {text}");
}

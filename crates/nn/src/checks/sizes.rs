use crate::label::NullLabel;
use crate::layers::Layout;
use crate::unet_config::Resample;
use crate::{Cost, DitConfig, LatentConfig, NetworkConfig, UnetConfig};
use pentimento_core::Params;
use tch::Device;

/// (name, parameters in millions, Gflops as the paper counts them: multiply-adds), table 4 of arXiv 2212.09748.
const DIT_TABLE: [(&str, u64, f64); 12] = [
    ("DiT-S/8", 33, 0.36),
    ("DiT-S/4", 33, 1.41),
    ("DiT-S/2", 33, 6.06),
    ("DiT-B/8", 131, 1.42),
    ("DiT-B/4", 130, 5.56),
    ("DiT-B/2", 130, 23.01),
    ("DiT-L/8", 459, 5.01),
    ("DiT-L/4", 458, 19.70),
    ("DiT-L/2", 458, 80.71),
    ("DiT-XL/8", 676, 7.39),
    ("DiT-XL/4", 675, 29.05),
    ("DiT-XL/2", 675, 118.64),
];

fn millions(c: Cost) -> u64 {
    (c.params + 500_000).div_euclid(1_000_000)
}

#[test]
fn dit_sizes_are_the_published_ones() {
    for (name, params, gflops) in DIT_TABLE {
        let config = DitConfig { preset: Some(name.into()), learn_sigma: true, ..DitConfig::default() };
        let cost = config.plan([4, 32, 32], 1000).unwrap().cost();
        assert_eq!(millions(cost), params, "{name}: {cost:?}");
        let got = cost.macs as f64 / 1e9;
        assert!((got - gflops).abs() < 0.006 + 0.005 * gflops, "{name}: {got} against {gflops}");
    }
    // sum(p.numel() for p in DiT_models["DiT-XL/2"]().parameters() if p.requires_grad), facebookresearch/DiT ed81ce2
    let exact =
        [("DiT-XL/2", 674_834_720), ("DiT-L/4", 457_988_224), ("DiT-B/8", 130_869_248), ("DiT-S/2", 32_865_056)];
    for (name, params) in exact {
        let config = DitConfig { preset: Some(name.into()), learn_sigma: true, ..DitConfig::default() };
        assert_eq!(config.plan([4, 32, 32], 1000).unwrap().cost().params, params, "{name}");
    }
}

/// Parameters and multiply-adds of the published U-Nets, by `sum(p.numel() for p in model.parameters())` and
/// `FlopCounterMode` (half of its count; torch 2.11.0, one image) on openai/guided-diffusion's `UNetModel` with the flags
/// of its README. The papers print 296, 422, 554 and 559 M (2105.05233), 52.5 M (2102.09672) and
/// 35.7 M (2006.11239).
#[test]
fn unet_sizes_are_the_published_ones() {
    let cases = [
        ("ADM-64", 64, true, 1000, 295_904_454, Some(109_678_018_560)),
        ("ADM-128", 128, true, 1000, 421_529_606, None),
        ("ADM-256", 256, true, 1000, 553_838_086, Some(1_119_832_768_512)),
        ("ADM-256", 256, true, 0, 552_814_086, None),
        ("ADM-512", 512, true, 1000, 558_997_638, None),
        ("iDDPM-CIFAR10", 32, true, 0, 52_546_438, Some(8_386_707_456)),
        ("DDPM-CIFAR10", 32, false, 0, 35_746_307, None),
    ];
    for (name, px, learn_sigma, classes, params, macs) in cases {
        let config =
            UnetConfig { preset: Some(name.into()), learn_sigma, null_label: NullLabel::Absent, ..Default::default() };
        let cost = config.plan([3, px, px], classes).unwrap().cost();
        assert_eq!((cost.params, macs.unwrap_or(cost.macs)), (params, cost.macs), "{name}");
    }
}

/// The count without tensors is the count with them.
#[test]
fn costs_count_what_is_built() {
    let unet = |resample, mult: &[f64]| {
        let (channels, blocks, groups) = (Some(8), Some(1), Some(4));
        let (mult, resample, attention) = (Some(mult.into()), Some(resample), Some(vec![2]));
        NetworkConfig::Unet(UnetConfig { channels, blocks, groups, mult, resample, attention, ..Default::default() })
    };
    let latent = Some(LatentConfig { width: 8, sections: 2 });
    let told = NetworkConfig::Unet(UnetConfig {
        channels: Some(8),
        mult: Some(vec![1.0, 2.0]),
        groups: Some(4),
        resample: Some(Resample::Residual),
        latent,
        ..Default::default()
    });
    let tiny = DitConfig::sized([4, 16, 3, 2]);
    let cases = [
        NetworkConfig::Dit(tiny),
        told,
        unet(Resample::Conv, &[1.0, 1.5]),
        unet(Resample::Residual, &[1.0, 1.0, 2.0]),
        unet(Resample::Pool, &[0.5, 2.0]),
    ];
    for config in cases {
        for classes in [0, 3] {
            let params = Params::new(Device::Cpu, 0);
            let network = config.build(&params.root(), [2, 8, 12], classes).unwrap();
            let cost = config.cost([2, 8, 12], classes).unwrap();
            assert_eq!((params.count() as u64, network.macs()), (cost.params, cost.macs), "{config:?}");
        }
    }
    let judge = crate::CnnConfig { width: 8, features: 16, classes: 3, regressions: 2, ..Default::default() };
    let params = Params::new(Device::Cpu, 0);
    let _ = judge.build(&params.root(), [1, 28, 28]).unwrap();
    assert_eq!(params.count() as u64, judge.cost([1, 28, 28]).params);
}

fn complaint(toml: &str) -> String {
    #[derive(serde::Deserialize, Debug)]
    struct Recipe {
        network: NetworkConfig,
    }
    match toml::from_str::<Recipe>(toml) {
        Ok(r) => r.network.cost([3, 32, 32], 10).unwrap_err().to_string(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn settings_that_do_not_fit_are_one_sentence_with_the_nearest_choice() {
    let cases = [
        (
            "network = \"DiT-S/5\"",
            "network.dit.patch = 5 does not divide the image height 32; the nearest choices are 4 and 8",
        ),
        (
            "[network.dit]\npreset = \"DiT-S/4\"\nheads = 5",
            "network.dit.heads = 5 does not divide the width 384; the nearest choices are 4 and 6",
        ),
        ("[network.dit]\npatch = 4\nwidth = 96", "network.dit.depth is missing"),
        ("[network.dit]\npreset = \"DiT-M/4\"", "the nearest choice is DiT-S/4"),
        ("network = \"ADM-65\"", "the nearest choice is ADM-64"),
        ("[network.dit]\npacth = 4", "unknown field `pacth`"),
        ("[network.resnet]\nwidth = 4", "unknown variant `resnet`"),
        ("network = 3", "a name such as \"DiT-S/4\""),
        (
            "[network.unet]\nattention = [3]",
            "network.unet.attention = 3 is unknown; the nearest choice is 2, and there are 1, 2, 4",
        ),
        (
            "[network.unet]\nchannels = 48",
            "network.unet.groups = 32 does not divide the channels of a level, 48; the nearest choices are 24 and 48",
        ),
        (
            "[network.unet]\nmult = [1, 1, 1, 1, 1, 1, 1]",
            "network.unet.mult = 7 levels; must be a list of at most 6 levels",
        ),
        (
            "[network.unet]\nheads = 3",
            "network.unet.heads = 3 does not divide the channels of a level with attention, 128; the nearest choices are 2 and 4",
        ),
        ("[network.unet]\nblocks = 0", "network.unet.blocks = 0; must be at least 1"),
    ];
    for (toml, want) in cases {
        let got = complaint(toml);
        assert!(got.contains(want), "{toml}\n  {got}");
    }
}

#[test]
fn presets_and_tables_name_the_same_networks_and_survive_a_round_trip() {
    #[derive(serde::Deserialize, serde::Serialize, Debug)]
    struct Recipe {
        network: NetworkConfig,
    }
    let read = |s: &str| toml::from_str::<Recipe>(s).unwrap();
    let short = read("network = \"DiT-Ti/4\"");
    let long = read("[network.dit]\npatch = 4\nwidth = 192\ndepth = 12\nheads = 3");
    let cost = |r: &Recipe| r.network.cost([3, 32, 32], 10).unwrap();
    assert_eq!(cost(&short), cost(&long));
    let shallow = read("[network.dit]\npreset = \"DiT-Ti/4\"\ndepth = 6");
    assert!(cost(&shallow).params < cost(&short).params);
    let unet = read("[network.unet]\nchannels = 32\nmult = [1, 2]\nattention = [2]\nlayout = \"channels_last\"");
    assert!(matches!(&unet.network, NetworkConfig::Unet(c) if c.layout == Layout::ChannelsLast));
    for recipe in [short, long, shallow, unet] {
        let again = read(&toml::to_string(&recipe).unwrap());
        assert_eq!(again.network, recipe.network);
        let json = serde_json::to_string(&recipe.network).unwrap();
        assert_eq!(serde_json::from_str::<NetworkConfig>(&json).unwrap(), recipe.network);
    }
}

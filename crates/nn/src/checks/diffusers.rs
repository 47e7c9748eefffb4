use super::reference::Reference;
use crate::diffusers::{DitTransformer2d, Unet2d, dit_names, load, unet_names};
use crate::weights::cast;
use crate::{Arithmetic, NetworkConfig};
use pentimento_core::Params;
use tch::{Device, Kind};

const DIT: &str = r#"{"_class_name": "DiTTransformer2DModel", "num_attention_heads": 4, "attention_head_dim": 8,
    "in_channels": 3, "out_channels": 6, "num_layers": 2, "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 5}"#;

const UNET: &str = r#"{"_class_name": "UNet2DModel", "sample_size": 8, "block_out_channels": [16, 24],
    "layers_per_block": 1, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "attention_head_dim": 8, "norm_num_groups": 8, "norm_eps": 1e-6,
    "downsample_padding": 0, "flip_sin_to_cos": false, "freq_shift": 1, "num_class_embeds": 4}"#;

#[test]
fn dit_transformer_equals_diffusers() {
    let reference = Reference::open("dit/diffusers.safetensors");
    let (config, input, classes) = serde_json::from_str::<DitTransformer2d>(DIT).unwrap().ours().unwrap();
    assert_eq!(config.arithmetic, Arithmetic::Diffusers);
    for (kind, tolerance) in [(Kind::Double, 5e-7), (Kind::Float, 1e-5)] {
        let params = Params::new(Device::Cpu, 0);
        let network = NetworkConfig::Dit(config.clone()).build(&params.root(), input, classes).unwrap();
        load(&params, dit_names, |n| reference.find(&format!("weight.{n}"))).unwrap();
        cast(&params, kind);
        reference.check(&*network, &params, tolerance, dit_names, &network.blocks());
    }
}

#[test]
fn unet2d_equals_diffusers() {
    let reference = Reference::open("unet/diffusers.safetensors");
    let (config, input, classes) = serde_json::from_str::<Unet2d>(UNET).unwrap().ours().unwrap();
    let plan = config.plan(input, classes).unwrap();
    for (kind, tolerance) in [(Kind::Double, 5e-7), (Kind::Float, 1e-5)] {
        let params = Params::new(Device::Cpu, 0);
        let network = plan.build(&params.root());
        let names = |n: &str| unet_names(&plan, n);
        let ours = params.entries();
        let mapped: Vec<String> = ours.iter().flat_map(|e| names(&e.name)).collect();
        for theirs in reference.below("weight.") {
            assert!(mapped.contains(&theirs), "{theirs} of diffusers has no counterpart");
        }
        load(&params, names, |n| reference.find(&format!("weight.{n}"))).unwrap();
        cast(&params, kind);
        reference.check(&network, &params, tolerance, names, &["middle_block".into()]);
    }
}

#[test]
fn older_attention_names_are_found() {
    let reference = Reference::open("unet/diffusers.safetensors");
    let (config, input, classes) = serde_json::from_str::<Unet2d>(UNET).unwrap().ours().unwrap();
    let plan = config.plan(input, classes).unwrap();
    let params = Params::new(Device::Cpu, 0);
    let _ = plan.build(&params.root());
    let find = |n: &str| {
        let new = n.replace(".query.", ".to_q.").replace(".key.", ".to_k.").replace(".value.", ".to_v.");
        let new = new.replace(".proj_attn.", ".to_out.0.");
        if new == n && (n.contains(".to_") && n.contains("attentions")) {
            return None;
        }
        reference.find(&format!("weight.{new}"))
    };
    load(&params, |n| unet_names(&plan, n), find).unwrap();
    assert!(load(&params, |n| unet_names(&plan, n), |_| None).unwrap_err().to_string().contains("are missing"));
}

#[test]
fn what_cannot_be_expressed_is_named() {
    let unet = |edit: fn(&mut Unet2d)| {
        let mut c = Unet2d { sample_size: Some(crate::diffusers::SampleSize::Square(32)), ..Unet2d::default() };
        edit(&mut c);
        c.ours().map(|_| ()).unwrap_err().to_string()
    };
    assert!(unet(|c| c.down_block_types[0] = "SkipDownBlock2D".into()).contains("SkipDownBlock2D cannot be expressed"));
    assert!(unet(|c| c.up_block_types[3] = "AttnUpBlock2D".into()).contains("must mirror DownBlock2D"));
    assert!(unet(|c| c.resnet_time_scale_shift = "scale_shift".into()).starts_with("attn_norm_num_groups = None"));
    assert!(unet(|c| c.time_embedding_type = "fourier".into()).contains("only \"positional\" is"));
    assert!(unet(|c| c.downsample_type = "resnet".into()).contains("mixed"));
    let dit = DitTransformer2d { norm_eps: 1e-3, ..DitTransformer2d::default() };
    assert!(dit.ours().unwrap_err().to_string().contains("norm_eps = 0.001 cannot be expressed here: only 1e-5 is"));
}

use super::reference::Reference;
use crate::attention::HeadOrder;
use crate::label::NullLabel;
use crate::layers::Layout;
use crate::unet_config::{Embedded, Resample};
use crate::weights::{cast, load_params};
use crate::{DitConfig, NetworkConfig, UnetConfig};
use pentimento_core::Params;
use tch::{Device, Kind};

/// f64: only the rounding of the stored reference. f32: the promise.
const TOLERANCES: [(Kind, f64); 2] = [(Kind::Double, 5e-7), (Kind::Float, 1e-5)];

fn check(file: &str, config: &NetworkConfig, classes: i64) {
    let reference = Reference::open(file);
    for (kind, tolerance) in TOLERANCES {
        let params = Params::new(Device::Cpu, 0);
        let network = config.build(&params.root(), [3, 8, 8], classes).unwrap();
        let names: Vec<String> = params.entries().into_iter().map(|e| e.name).collect();
        for theirs in reference.below("weight.") {
            assert!(names.contains(&theirs), "{theirs} of the original has no counterpart");
        }
        load_params(&params, |name| reference.find(&format!("weight.{name}"))).unwrap();
        cast(&params, kind);
        reference.check(&*network, &params, tolerance, |n| vec![n.into()], &network.blocks());
    }
}

#[test]
fn dit_equals_the_original() {
    let config = DitConfig { learn_sigma: true, ..DitConfig::sized([2, 32, 2, 4]) };
    check("dit/original.safetensors", &NetworkConfig::Dit(config), 5);
}

#[test]
fn unet_with_scale_shift_and_residual_resampling_equals_the_original() {
    for layout in [Layout::Contiguous, Layout::ChannelsLast] {
        let config = UnetConfig {
            channels: Some(16),
            mult: Some(vec![1.0, 1.5]),
            blocks: Some(1),
            attention: Some(vec![2]),
            head_channels: Some(8),
            head_order: Some(HeadOrder::QkvFirst),
            embedded: Some(Embedded::ScaleShift),
            resample: Some(Resample::Residual),
            groups: Some(8),
            learn_sigma: true,
            null_label: NullLabel::Absent,
            layout,
            ..UnetConfig::default()
        };
        check("unet/scale_shift.safetensors", &NetworkConfig::Unet(config), 4);
    }
}

#[test]
fn unet_with_added_embedding_and_legacy_heads_equals_the_original() {
    let config = UnetConfig {
        channels: Some(16),
        mult: Some(vec![1.0, 1.0, 1.5]),
        blocks: Some(1),
        attention: Some(vec![1, 4]),
        heads: Some(2),
        head_order: Some(HeadOrder::HeadsFirst),
        embedded: Some(Embedded::Added),
        resample: Some(Resample::Conv),
        groups: Some(8),
        ..UnetConfig::default()
    };
    check("unet/added.safetensors", &NetworkConfig::Unet(config), 0);
}

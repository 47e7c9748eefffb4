//! Backbones: the DiT, the ADM U-Net and a small convolutional judge, with the parameter names of the PyTorch originals,
//! so that published weights load by name.
//!
//! A [`NetworkConfig`] is checked into a plan before the first tensor exists; a plan knows its parameters and its
//! multiply-adds, and builds a [`pentimento_core::Network`].

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_possible_truncation,
        reason = "exact checks compare exactly, on numbers they chose"
    )
)]

pub mod attention;
#[cfg(test)]
mod checks;
pub mod cnn;
mod config;
mod cost;
pub mod diffusers;
mod diffusers_config;
pub mod dit;
mod error;
mod frames;
mod gates;
mod grid;
mod grid_codec;
mod gru;
pub mod label;
pub mod layers;
mod mapped;
mod mlp;
mod pyramid;
mod resnet;
pub mod time;
pub mod unet;
pub mod unet_config;
mod unet_plan;
mod views;
pub mod weights;

pub use cnn::{Cnn, CnnConfig};
pub use config::NetworkConfig;
pub use cost::Cost;
pub use dit::{Arithmetic, DitConfig, DitPlan};
pub use error::Error;
pub use frames::FrameEncoder;
pub use gates::open_gates;
pub use grid::{Grid, GridDecoder, GridEncoder};
pub use grid_codec::{GridCodec, GridCodecConfig};
pub use gru::Gru;
pub use mapped::Mapped;
pub use mlp::{Activation, Mlp};
pub use pyramid::{ConvDecoder, ConvEncoder, Pyramid};
pub use resnet::{Resnet, ResnetBlock, ResnetConfig, ResnetStem, ResnetTop};
pub use unet_config::{LatentConfig, UnetConfig};
pub use unet_plan::UnetPlan;
pub use views::Views;

/// Channels, height and width of the images a network reads.
pub type Input = [i64; 3];

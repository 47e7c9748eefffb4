//! The one map between diffusers' names and ours, for `DiTTransformer2DModel` and `UNet2DModel`.
//!
//! Every tensor of ours is made of one or several of theirs: what we keep fused (queries, keys and values) is stacked
//! along the first axis, what we store as a kernel of size 1 is reshaped.

use crate::Error;
pub use crate::diffusers_config::{DitTransformer2d, SampleSize, Unet2d};
use crate::unet_plan::{Piece, UnetPlan};
use crate::weights::tensor_from_array;
use pentimento_core::{Params, Role};
use pentimento_io::Array;
use std::collections::HashMap;
use tch::Tensor;

/// Their names for one of our tensors of a DiT; empty for the table of positions, which their files leave out.
pub fn dit_names(ours: &str) -> Vec<String> {
    let (stem, leaf) = ours.rsplit_once('.').unwrap_or(("", ours));
    let stems: Vec<String> = match stem {
        "x_embedder.proj" => vec!["pos_embed.proj".into()],
        "t_embedder.mlp.0" => vec!["transformer_blocks.0.norm1.emb.timestep_embedder.linear_1".into()],
        "t_embedder.mlp.2" => vec!["transformer_blocks.0.norm1.emb.timestep_embedder.linear_2".into()],
        "y_embedder.embedding_table" => vec!["transformer_blocks.0.norm1.emb.class_embedder.embedding_table".into()],
        "final_layer.adaLN_modulation.1" => vec!["proj_out_1".into()],
        "final_layer.linear" => vec!["proj_out_2".into()],
        _ => {
            let Some((index, inner)) = stem.strip_prefix("blocks.").and_then(|s| s.split_once('.')) else {
                return Vec::new();
            };
            let theirs: &[&str] = match inner {
                "attn.qkv" => &["attn1.to_q", "attn1.to_k", "attn1.to_v"],
                "attn.proj" => &["attn1.to_out.0"],
                "mlp.fc1" => &["ff.net.0.proj"],
                "mlp.fc2" => &["ff.net.2"],
                "adaLN_modulation.1" => &["norm1.linear"],
                _ => &[],
            };
            theirs.iter().map(|t| format!("transformer_blocks.{index}.{t}")).collect()
        }
    };
    stems.into_iter().map(|s| format!("{s}.{leaf}")).collect()
}

/// Their names for one of our tensors of a U-Net.
pub fn unet_names(plan: &UnetPlan, ours: &str) -> Vec<String> {
    let (stem, leaf) = ours.rsplit_once('.').unwrap_or(("", ours));
    let stems = match stem {
        "time_embed.0" => vec!["time_embedding.linear_1".into()],
        "time_embed.2" => vec!["time_embedding.linear_2".into()],
        "label_emb" => vec!["class_embedding".into()],
        "input_blocks.0.0" => vec!["conv_in".into()],
        "out.0" => vec!["conv_norm_out".into()],
        "out.2" => vec!["conv_out".into()],
        _ => block_names(plan, stem).unwrap_or_default(),
    };
    stems.into_iter().map(|s| format!("{s}.{leaf}")).collect()
}

fn block_names(plan: &UnetPlan, stem: &str) -> Option<Vec<String>> {
    let stage = plan.stages().find(|s| stem.strip_prefix(&s.name).is_some_and(|rest| rest.starts_with('.')))?;
    let (place, inner) = stem[stage.name.len() + 1..].split_once('.')?;
    let place: usize = place.parse().ok()?;
    let piece = stage.pieces.get(place)?;
    // Their place in a level, and whether this piece changes the resolution after it.
    let per_level = usize::try_from(plan.blocks).ok()? + 1;
    let (level, j, changes) = match stage.name.split_once('.') {
        Some(("input_blocks", i)) => {
            let i = i.parse::<usize>().ok()? - 1;
            (format!("down_blocks.{}", i.div_euclid(per_level)), i % per_level, i % per_level == per_level - 1)
        }
        Some((_, i)) => {
            let i = i.parse::<usize>().ok()?;
            let extra = place > 0 && !matches!(piece, Piece::Attention { .. });
            (format!("up_blocks.{}", i.div_euclid(per_level)), i % per_level, extra)
        }
        None => ("mid_block".into(), usize::from(place > 0 && place + 1 == stage.pieces.len()), false),
    };
    let holder = match piece {
        Piece::Attention { .. } if stage.name == "middle_block" => format!("{level}.attentions.0"),
        Piece::Attention { .. } => format!("{level}.attentions.{j}"),
        _ if changes && stage.name.starts_with("input") => format!("{level}.downsamplers.0"),
        _ if changes => format!("{level}.upsamplers.0"),
        _ => format!("{level}.resnets.{j}"),
    };
    let theirs: &[&str] = match inner {
        "in_layers.0" => &["norm1"],
        "in_layers.2" => &["conv1"],
        "emb_layers.1" => &["time_emb_proj"],
        "out_layers.0" => &["norm2"],
        "out_layers.3" => &["conv2"],
        "skip_connection" => &["conv_shortcut"],
        "norm" => &["group_norm"],
        "qkv" => &["to_q", "to_k", "to_v"],
        "proj_out" => &["to_out.0"],
        "op" | "conv" => &["conv"],
        _ => return None,
    };
    Some(theirs.iter().map(|t| format!("{holder}.{t}")).collect())
}

/// The names under which files from before 2023 keep attention.
fn older(name: &str) -> String {
    let pairs = [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")];
    pairs.iter().fold(name.to_owned(), |n, (new, old)| n.replace(new, old))
}

/// Fills a network from a diffusers file: `names` is [`dit_names`] or [`unet_names`], `find` reads one of their tensors.
/// Either everything is loaded or nothing changes.
///
/// # Errors
/// Missing names (in our spelling), other shapes.
pub fn load(
    params: &Params,
    names: impl Fn(&str) -> Vec<String>,
    mut find: impl FnMut(&str) -> Option<Array>,
) -> Result<(), Error> {
    let mut made: HashMap<String, Tensor> = HashMap::new();
    for e in params.entries() {
        let theirs = names(&e.name);
        let mut parts = Vec::with_capacity(theirs.len());
        for name in &theirs {
            if let Some(a) = find(name).or_else(|| find(&older(name))) {
                parts.push(tensor_from_array(&a)?);
            }
        }
        if theirs.is_empty() && e.role == Role::Buffer {
            made.insert(e.name, e.tensor);
        } else if !theirs.is_empty() && parts.len() == theirs.len() {
            let whole = Tensor::f_cat(&parts, 0)
                .map_err(|source| pentimento_core::Error::Torch { what: format!("stacking {theirs:?}"), source })?;
            // A kernel of size 1 against a matrix: the same numbers. Other shapes are left to the check.
            let size = e.tensor.size();
            let pointwise = size.len() > 2 && size[2..].iter().all(|n| *n == 1) && whole.size() == size[..2];
            made.insert(e.name, if pointwise { whole.view(size.as_slice()) } else { whole });
        }
    }
    Ok(params.load(|name| made.remove(name))?)
}

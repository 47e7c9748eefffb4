//! The rows of an accelerator: the works of rows 1 to 3 at published sizes, or at sizes of seconds.

use super::rows::{Choice, Row};
use serde_json::{Value, json};

/// DiT-XL/2 (Peebles and Xie 2022, table 1) on latents of 256-pixel pictures, without its learned variance.
fn dit(tiny: bool) -> Value {
    let [depth, width, heads, side, classes] = if tiny { [2, 64, 2, 8, 10] } else { [28, 1152, 16, 32, 1000] };
    json!({"depth": depth, "width": width, "heads": heads, "patch": 2, "channels": 4, "side": side, "classes": classes})
}

/// The same as diffusers has it.
fn transformer(tiny: bool) -> Value {
    let [depth, head, heads, side, classes] = if tiny { [2, 32, 2, 8, 10] } else { [28, 72, 16, 32, 1000] };
    json!({"channels": 4, "side": side, "classes": classes, "config": {
        "num_attention_heads": heads, "attention_head_dim": head, "in_channels": 4, "out_channels": 4, "num_layers": depth,
        "sample_size": side, "patch_size": 2, "num_embeds_ada_norm": classes}})
}

/// The widths, depths and resolutions of Stable Diffusion 1.5's U-Net, with self-attention alone, since UNet2DModel hears no text.
fn unet(tiny: bool) -> Value {
    let (widths, side, groups) = if tiny { ([32, 32, 64, 64], 16, 8) } else { ([320, 640, 1280, 1280], 64, 32) };
    let (down, up) = (["AttnDownBlock2D"; 3], ["AttnUpBlock2D"; 3]);
    json!({"channels": 4, "side": side, "classes": 10, "config": {
        "sample_size": side, "in_channels": 4, "out_channels": 4, "block_out_channels": widths, "layers_per_block": 2,
        "down_block_types": [down[0], down[1], down[2], "DownBlock2D"], "up_block_types": ["UpBlock2D", up[0], up[1], up[2]],
        "attention_head_dim": if tiny { 16 } else { 64 }, "norm_num_groups": groups, "num_class_embeds": 10}})
}

/// All rows. Convolutions in fp32 run in TF32 on either side, as both libraries have it by default.
pub fn rows(tiny: bool) -> Vec<Row> {
    let place = |name: &str| format!("gpu-{name}{}", if tiny { "-tiny" } else { "" });
    let train = |id, title, batch: i64| {
        let batch = if tiny { batch >> 4 } else { batch };
        let ask = json!({"work": "dit_train", "shared": place("dit"), "batch": batch, "size": dit(tiny)});
        Row { id, title, choice: Choice::Network, tolerance: [1e-3, 2e-2], ask }
    };
    let (drawn, steps) = if tiny { (2, 5) } else { (8, 50) };
    vec![
        train("g1a", "DiT-XL/2 training step, latents of 256 px, batch 64", 64),
        train("g1b", "DiT-XL/2 training step, latents of 256 px, batch 128", 128),
        train("g1c", "DiT-XL/2 training step, latents of 256 px, batch 256", 256),
        Row {
            id: "g2",
            title: "DiT-XL/2, DDIM-50 with guidance, batch 8",
            choice: Choice::Network,
            tolerance: [1e-3, 1e-1],
            ask: json!({"work": "ddim", "shared": place("ddim"), "batch": drawn, "steps": steps, "guidance": 4.0,
                "size": transformer(tiny)}),
        },
        Row {
            id: "g3",
            title: "U-Net of Stable Diffusion 1.5's size forward, 64 x 64 latents, batch 1",
            choice: Choice::Convolutional,
            tolerance: [2e-3, 5e-2],
            ask: json!({"work": "unet_forward", "shared": place("unet"), "batch": 1, "size": unet(tiny)}),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_papers_and_the_tiny_ones_lie_apart() {
        let (whole, tiny) = (rows(false), rows(true));
        for (a, b) in whole.iter().zip(&tiny) {
            assert!(a.id == b.id && a.ask["shared"] != b.ask["shared"] && a.ask["work"] == b.ask["work"]);
        }
        assert_eq!((&whole[0].ask["size"]["width"], &whole[2].ask["batch"]), (&json!(1152), &json!(256)));
        let width = |v: &Value, key: &str| v["config"][key].as_i64().unwrap();
        let size = &whole[3].ask["size"];
        assert_eq!(width(size, "num_attention_heads") * width(size, "attention_head_dim"), 1152);
    }
}

//! The rows: what is compared, at which sizes, and how closely results must agree.

use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// A row that both sides run as a work of the line protocol.
#[derive(Clone, Debug)]
pub struct Row {
    /// Number of the row, and a letter.
    pub id: &'static str,
    /// As the tables print it.
    pub title: &'static str,
    /// Fields of the `setup` line, the configuration aside.
    pub ask: Value,
    /// Largest difference of results over their largest magnitude: in fp32, and when a side computes in bf16.
    pub tolerance: [f64; 2],
    /// What may be varied.
    pub choice: Choice,
}

/// What may be varied in search of the fastest configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing.
    Plain,
    /// Precision and compilation.
    Network,
    /// Precision, compilation and memory layout.
    Convolutional,
    /// Compilation: what trains in single precision only.
    Single,
}

impl Choice {
    /// Whether bf16 may be tried.
    pub fn lowers(self) -> bool {
        matches!(self, Self::Network | Self::Convolutional)
    }

    /// Whether the peer is compiled.
    pub fn compiles(self) -> bool {
        self.lowers() || self == Self::Single
    }
}

/// Works of networks whose peer needs packages that only the first environment holds.
const FIRST_ONLY: [&str; 2] = ["pythae_train", "byol_train"];

impl Row {
    /// Whether an iteration is a program of its own.
    pub fn launches(&self) -> bool {
        self.ask["work"].as_str().is_some_and(|work| work.starts_with("program"))
    }

    /// Whether the newest torch runs it: its environment holds torch and diffusers alone.
    pub fn newest(&self) -> bool {
        self.choice != Choice::Plain && !FIRST_ONLY.iter().any(|work| self.ask["work"] == **work)
    }
}

fn dit(side: i64) -> Value {
    json!({"depth": 6, "width": 256, "heads": 8, "patch": 2, "channels": 3, "side": side, "classes": 10})
}

/// 64 channels at 32 x 32 and 128 at 16 x 16, two residual blocks each, attention at 16, in diffusers' words.
fn unet() -> Value {
    json!({"channels": 3, "side": 32, "classes": 10, "config": {
        "sample_size": 32, "in_channels": 3, "out_channels": 3, "block_out_channels": [64, 128], "layers_per_block": 2,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": 64, "norm_num_groups": 32, "num_class_embeds": 10}})
}

/// The DiT of row 1 as diffusers has it.
fn transformer() -> Value {
    json!({"channels": 3, "side": 16, "classes": 10, "config": {
        "num_attention_heads": 8, "attention_head_dim": 32, "in_channels": 3, "out_channels": 3, "num_layers": 6,
        "sample_size": 16, "patch_size": 2, "num_embeds_ada_norm": 10}})
}

/// 784-512-256-32 and back.
fn autoencoder() -> Value {
    json!({"channels": 1, "side": 28, "hidden": [512, 256], "latent": 32})
}

/// The quickstart's U-Net, but for its pooling, which diffusers has not: convolutions, in diffusers' words; for 4096 pictures.
fn program() -> Value {
    json!({"items": 4096, "side": 16, "channels": 3, "classes": 10, "config": {
        "sample_size": 16, "in_channels": 3, "out_channels": 3, "block_out_channels": [32, 64], "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "attention_head_dim": 32, "norm_num_groups": 8, "num_class_embeds": 11}})
}

/// Three strided convolutions from 64 channels on, codes of 256, heads of 1024.
fn byol() -> Value {
    json!({"items": 4096, "side": 32, "channels": 3, "width": 64, "depth": 3, "latent": 256, "hidden": [1024]})
}

/// All rows that are works. fp32 results of the same operations in another order agree to about 1e-5 of their magnitude;
/// each of five training steps moves weights by the sign of small gradients, and fifty guided steps add up.
pub fn rows() -> Vec<Row> {
    let row = |id, title, choice, tolerance, ask| Row { id, title, ask, tolerance, choice };
    let network = [2e-5, 3e-2];
    vec![
        row(
            "1a",
            "DiT forward, batch 64",
            Choice::Network,
            network,
            json!({"work": "dit_forward", "shared": "dit", "batch": 64, "size": dit(16)}),
        ),
        row(
            "1b",
            "DiT training step, batch 64",
            Choice::Network,
            [1e-4, 1e-2],
            json!({"work": "dit_train", "shared": "dit", "batch": 64, "size": dit(16)}),
        ),
        row(
            "2a",
            "U-Net forward, batch 32",
            Choice::Convolutional,
            network,
            json!({"work": "unet_forward", "shared": "unet", "batch": 32, "size": unet()}),
        ),
        row(
            "2b",
            "U-Net training step, batch 32",
            Choice::Convolutional,
            [1e-4, 1e-2],
            json!({"work": "unet_train", "shared": "unet", "batch": 32, "size": unet()}),
        ),
        row(
            "3a",
            "DiT forward, batch 1",
            Choice::Network,
            network,
            json!({"work": "dit_forward", "shared": "dit", "batch": 1, "size": dit(16)}),
        ),
        row(
            "3b",
            "DDIM-50 with guidance, batch 16",
            Choice::Network,
            [1e-3, 1e-1],
            json!({"work": "ddim", "shared": "ddim", "batch": 16, "steps": 50, "guidance": 4.0, "size": transformer()}),
        ),
        row(
            "4a",
            "128 steps of the quickstart's U-Net as a whole program, pictures at its end, against diffusers' example",
            Choice::Plain,
            [1e-9, 1e-9],
            json!({"work": "program_train", "shared": "program", "batch": 32, "steps": 20, "guidance": 1.5, "size": program()}),
        ),
        row(
            "4b",
            "From launch to a picture of a saved run, DDIM-20 with guidance, against diffusers",
            Choice::Plain,
            [1e-9, 1e-9],
            json!({"work": "program_picture", "shared": "program", "batch": 32, "steps": 20, "guidance": 1.5, "size": program()}),
        ),
        row(
            "5a",
            "MLP VAE training step, batch 256, against plain PyTorch",
            Choice::Network,
            [1e-4, 1e-2],
            json!({"work": "vae_train", "shared": "vae", "batch": 256, "size": autoencoder()}),
        ),
        row(
            "5b",
            "MLP VAE training step, batch 256, against pythae",
            Choice::Network,
            [1e-4, 1e-2],
            json!({"work": "pythae_train", "shared": "vae", "batch": 256, "size": autoencoder()}),
        ),
        row(
            "6a",
            "PNG folder to two views, batches of 256, against lightly",
            Choice::Plain,
            [0.1, 0.1],
            json!({"work": "view_loader", "shared": "contrast", "batch": 256, "size": byol()}),
        ),
        row(
            "6b",
            "BYOL steps from PNG files to weights, batch 256, against lightly",
            Choice::Single,
            [1e-3, 1e-3],
            json!({"work": "byol_train", "shared": "contrast", "batch": 256, "size": byol()}),
        ),
        row(
            "7a",
            "PNG folder to batches of 64",
            Choice::Plain,
            [1e-6, 1e-6],
            json!({"work": "png_loader", "shared": "loading", "batch": 64, "size": {"items": 4096, "side": 32}}),
        ),
        row(
            "7b",
            "IDX to batches of 256",
            Choice::Plain,
            [1e-6, 1e-6],
            json!({"work": "idx_loader", "shared": "loading", "batch": 256, "size": {"items": 20480, "side": 28}}),
        ),
        row(
            "7c",
            "Logistic probe, 50,000 x 512",
            Choice::Plain,
            [1e-3, 1e-3],
            json!({"work": "logistic", "shared": "reading", "size": {"items": 50000, "width": 512}}),
        ),
        row(
            "7d",
            "Frechet distance, 10,000 x 2048",
            Choice::Plain,
            [1e-4, 1e-4],
            json!({"work": "frechet", "shared": "reading", "size": {"items": 10000, "width": 2048}}),
        ),
    ]
}

/// Where and how the sides run.
pub struct Place {
    /// Folder of what both sides read.
    pub scratch: PathBuf,
    /// Threads of each side.
    pub threads: usize,
    /// `cpu`, or `cuda`.
    pub device: String,
}

impl Place {
    /// A row's `setup` fields with a folder for what is shared, and a configuration.
    pub fn setup(&self, row: &Value, config: &Config) -> Value {
        let mut fields: Map<String, Value> = row.as_object().cloned().unwrap_or_default();
        let shared = fields.remove("shared").and_then(|s| s.as_str().map(String::from)).unwrap_or_default();
        fields.insert("folder".into(), json!(self.scratch.join(shared)));
        fields.insert("threads".into(), json!(self.threads));
        for (key, value) in [("device", &*self.device), ("precision", config.precision), ("layout", config.layout)] {
            fields.entry(key).or_insert_with(|| json!(value));
        }
        fields.insert("compile".into(), json!(config.compile));
        Value::Object(fields)
    }
}

/// One way of running a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// `eager`, or a mode of `torch.compile`.
    pub compile: &'static str,
    /// `fp32` or `bf16`.
    pub precision: &'static str,
    /// `contiguous` or `channels_last`.
    pub layout: &'static str,
}

impl Config {
    /// What nothing was chosen for.
    pub const PLAIN: Self = Self { compile: "eager", precision: "fp32", layout: "contiguous" };

    /// Every precision and layout that a row may have, not compiled; `bf16` says whether it is tried.
    pub fn eager(choice: Choice, bf16: bool) -> Vec<Self> {
        let precisions: &[_] = if choice.lowers() && bf16 { &["fp32", "bf16"] } else { &["fp32"] };
        let layouts: &[_] =
            if choice == Choice::Convolutional { &["contiguous", "channels_last"] } else { &["contiguous"] };
        let both = |precision: &&'static str| layouts.iter().map(|layout| (*precision, *layout)).collect::<Vec<_>>();
        let all = precisions.iter().flat_map(both);
        all.map(|(precision, layout)| Self { compile: "eager", precision, layout }).collect()
    }

    /// In words, for a table.
    pub fn words(&self, choice: Choice) -> String {
        match choice {
            Choice::Plain => String::new(),
            Choice::Network | Choice::Single => format!("{}, {}", self.compile, self.precision),
            Choice::Convolutional => format!("{}, {}, {}", self.compile, self.precision, self.layout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_their_own_ids_and_whole_setups() {
        let mut ids: Vec<&str> = rows().iter().map(|r| r.id).collect();
        let n = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), n);
        let place = Place { scratch: "scratch".into(), threads: 2, device: "cuda".into() };
        for row in rows() {
            let ask = place.setup(&row.ask, &Config::PLAIN);
            let folder = ask["folder"].as_str().unwrap();
            assert!(folder.len() > "scratch/".len() && ask.get("shared").is_none(), "{ask}");
            assert_eq!(
                (&ask["compile"], &ask["threads"], &ask["device"]),
                (&json!("eager"), &json!(2), &json!("cuda"))
            );
        }
    }

    #[test]
    fn a_plain_row_has_one_configuration_and_a_convolutional_one_four() {
        let all = [Choice::Plain, Choice::Network, Choice::Convolutional, Choice::Single];
        let n = |bf16| all.map(|c| Config::eager(c, bf16).len());
        assert_eq!((n(true), n(false)), ([1, 2, 4, 1], [1, 1, 2, 1]));
    }

    #[test]
    fn rows_whose_packages_the_newest_environment_lacks_do_not_run_there() {
        let there: Vec<&str> = rows().iter().filter(|r| r.newest()).map(|r| r.id).collect();
        assert_eq!(there, ["1a", "1b", "2a", "2b", "3a", "3b", "5a"]);
    }
}

//! Published weights become runs that draw and read.

use crate::scratch::{Said, Scratch, names, read_png, tensors};
use pentimento_io::features::Features;
use std::fs;
use std::path::{Path, PathBuf};

const DIT: &str = r#"
[input]
size = [3, 8, 8]
classes = 5

[network.dit]
patch = 2
width = 32
depth = 2
heads = 4
learn_sigma = true
"#;

const UNET: &str = r#"
[input]
size = [3, 8, 8]
classes = ["ant", "bee", "cat", "dog"]

[network.unet]
channels = 16
mult = [1, 1.5]
blocks = 1
attention = [2]
head_channels = 8
head_order = "qkv_first"
resample = "residual"
groups = 8
learn_sigma = true
null_label = "absent"
"#;

/// The noise process of DDPM, ADM and DiT, drawn as they do.
const PROCESS: &str = r#"
[diffusion]
path = "table_linear(1000, 0.0001, 0.02)"
prediction = "epsilon"

[sample]
sampler = "ancestral"
grid = "even"
steps = 10
guidance = 1.0
clip = true
"#;

const CONFIG: &str = r#"{"_class_name": "DiTTransformer2DModel", "num_attention_heads": 4, "attention_head_dim": 8,
    "in_channels": 3, "out_channels": 6, "num_layers": 2, "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 5}"#;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn done(said: Said) -> Said {
    assert_eq!(said.code, Some(0), "{said:?}");
    said
}

/// Draws and reads; returns the bytes of three pictures.
fn used(t: &Scratch, run: &str, block: &str) -> Vec<Vec<u8>> {
    done(t.run(&format!("sample {run} -n 3 --npz")));
    let drawn = |i: usize| read_png(&t.path(&format!("{run}/drawn/{i:06}.png")));
    let pictures: Vec<_> = (0..3).map(|i| drawn(i).pixels).collect();
    assert!(pictures.iter().all(|p| p.len() == 3 * 64 && p.iter().any(|&b| b != p[0])));
    // A sample does not depend on its batch.
    done(t.run(&format!("sample {run} -n 1 --first 2 --out one")));
    let one = read_png(&t.path("one/000002.png")).pixels;
    assert!(one.iter().zip(&pictures[2]).all(|(a, b)| a.abs_diff(*b) <= 1));
    done(t.run(&format!("encode {run} sprites -n 40 --block {block} --out {run}.npz")));
    let table = Features::read_npz(&t.path(&format!("{run}.npz"))).unwrap();
    assert_eq!(table.feature.shape()[0], 40);
    pictures
}

#[test]
fn the_originals_weights_are_imported_by_name() {
    let t = Scratch::new();
    for (run, sheet, file, block) in [
        ("dit", DIT, "dit/original.safetensors", "blocks.1"),
        ("unet", UNET, "unet/scale_shift.safetensors", "middle_block"),
    ] {
        fs::write(t.path(&format!("{run}.toml")), format!("{sheet}{PROCESS}")).unwrap();
        let file = fixture(file);
        let said =
            done(t.run(&format!("import {} --recipe {run}.toml --prefix weight. --outdir {run}", file.display())));
        assert!(said.out.starts_with(&format!("{run}/model.safetensors  ")), "{said:?}");
        assert!(said.out.contains("by the original's names"), "{said:?}");
        // Every weight is there as it was, and nothing else.
        let (theirs, ours) = (tensors(&file), tensors(&t.path(&format!("{run}/model.safetensors"))));
        let published: Vec<_> = theirs.iter().filter_map(|(n, a)| Some((n.strip_prefix("weight.")?, a))).collect();
        assert_eq!(published.len(), ours.len());
        for (name, array) in published {
            assert!(ours[&format!("net.{name}")] == *array, "{name}");
        }
        used(&t, run, block);
    }
    // Classes have the names that the recipe gives.
    done(t.run("sample unet -n 1 --class bee"));
    t.run("sample unet --class eel").refused(2, &["--class = eel; choose one of ant, bee"]);
    t.run("probe unet").refused(2, &["unet: was imported", "--data"]);
}

#[test]
fn the_predicted_variance_and_the_table_shape_what_is_drawn() {
    let t = Scratch::new();
    fs::write(t.path("dit.toml"), format!("{DIT}{PROCESS}")).unwrap();
    let cosine = PROCESS.replace("table_linear(1000, 0.0001, 0.02)", "table_cosine");
    fs::write(t.path("cosine.toml"), format!("{DIT}{cosine}")).unwrap();
    let file = fixture("dit/original.safetensors");
    for sheet in ["dit", "cosine"] {
        done(t.run(&format!("import {} --recipe {sheet}.toml --prefix weight.", file.display())));
    }
    let on_table = used(&t, "runs/dit", "blocks.0");
    assert_ne!(on_table, used(&t, "runs/cosine", "blocks.0"));
    // The half of the output that predicts the variance, silenced: its fraction is then 1/2 everywhere.
    let mut weights = tensors(&t.path("runs/dit/model.safetensors"));
    let silence = |name: &str,
                   rows: std::ops::Range<usize>,
                   weights: &mut std::collections::BTreeMap<String, pentimento_io::Array>| {
        let array = &weights[name];
        let (shape, pentimento_io::Values::F32(values)) = (array.shape().to_vec(), array.values()) else {
            panic!("{name}")
        };
        let width = values.len().div_euclid(shape[0]);
        let mut values = values.clone();
        for row in rows {
            values[row * width..(row + 1) * width].fill(0.0);
        }
        weights.insert(name.into(), pentimento_io::Array::new(shape, pentimento_io::Values::F32(values)));
    };
    // Rows are (patch row, patch column, channel): channels 3 to 5 of 6 speak of the variance.
    for place in 0..4 {
        for name in ["net.final_layer.linear.weight", "net.final_layer.linear.bias"] {
            silence(name, 6 * place + 3..6 * place + 6, &mut weights);
        }
    }
    let named: Vec<_> = weights.iter().map(|(n, a)| (n.strip_prefix("net.").unwrap(), a)).collect();
    pentimento_io::safetensors::write(&t.path("silent.safetensors"), &named, &Default::default()).unwrap();
    done(t.run("import silent.safetensors --recipe dit.toml --outdir silent"));
    assert_ne!(on_table, used(&t, "silent", "blocks.0"));
}

#[test]
fn a_diffusers_folder_says_itself_what_it_is() {
    let t = Scratch::new();
    fs::write(t.path("process.toml"), PROCESS).unwrap();
    let folder = t.path("pipeline/transformer");
    fs::create_dir_all(&folder).unwrap();
    fs::write(t.path("pipeline/model_index.json"), "{}").unwrap();
    fs::write(folder.join("config.json"), CONFIG).unwrap();
    fs::copy(fixture("dit/diffusers.safetensors"), folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    for (run, named) in [("whole", "pipeline"), ("part", "pipeline/transformer")] {
        let said = done(t.run(&format!("import {named} --recipe process.toml --prefix weight. --outdir {run}")));
        assert!(said.out.contains("by diffusers' names"), "{said:?}");
    }
    assert_eq!(used(&t, "whole", "blocks.1"), used(&t, "part", "blocks.1"));
    fs::write(folder.join("config.json"), CONFIG.replace("DiTTransformer2DModel", "AutoencoderKL")).unwrap();
    t.run("import pipeline --recipe process.toml --outdir no").refused(2, &["config.json", "AutoencoderKL"]);
    fs::write(
        folder.join("config.json"),
        CONFIG.replace("\"ada_norm", "").replace("2DModel\",", "2DModel\", \"norm_type\": \"layer_norm\","),
    )
    .unwrap();
    t.run("import pipeline --recipe process.toml --outdir no").refused(2, &["norm_type", "layer_norm"]);
    assert!(!t.path("no").exists());
}

#[test]
fn weights_that_do_not_fit_are_refused_and_leave_nothing() {
    let t = Scratch::new();
    let sheet = |name: &str, text: &str| fs::write(t.path(name), format!("{text}{PROCESS}")).unwrap();
    sheet("dit.toml", DIT);
    sheet("wide.toml", &DIT.replace("width = 32", "width = 64"));
    sheet("deep.toml", &DIT.replace("depth = 2", "depth = 3"));
    sheet("flat.toml", &DIT.replace("depth = 2", "depth = 1"));
    sheet("unet.toml", UNET);
    sheet("bare.toml", "");
    sheet("typo.toml", &DIT.replace("classes = 5", "clases = 5"));
    let file = fixture("dit/original.safetensors");
    let file = file.display();
    let cases: [(String, &[&str]); 8] = [
        (
            format!("{file} --recipe dit.toml"),
            &["original.safetensors: holds neither x_embedder.proj.weight", "--prefix"],
        ),
        (format!("{file} --recipe wide.toml --prefix weight."), &["x_embedder.proj.weight", "[64, 3, 2, 2]"]),
        (format!("{file} --recipe deep.toml --prefix weight."), &["weights are missing", "blocks.2"]),
        (format!("{file} --recipe flat.toml --prefix weight."), &["weight.blocks.1.", "has no place"]),
        (
            format!("{file} --recipe unet.toml --prefix weight."),
            &["holds neither weight.time_embed.0.weight", "check that the recipe"],
        ),
        (format!("{file} --recipe bare.toml"), &["config.json", "[network] and [input]"]),
        (format!("{file} --recipe typo.toml"), &["typo.toml: line 4, column 1: ", "did you mean `classes`?"]),
        ("nowhere.safetensors --recipe dit.toml".into(), &["nowhere.safetensors"]),
    ];
    for (args, words) in cases {
        t.run(&format!("import {args} --outdir r")).refused(2, words);
    }
    assert!(!names(&t.path("")).contains(&"r".to_owned()));
    done(t.run(&format!("import {file} --recipe dit.toml --prefix weight. --outdir r")));
    t.run(&format!("import {file} --recipe dit.toml --prefix weight. --outdir r"))
        .refused(2, &["r: holds a run already"]);
}

#[test]
fn a_predicted_variance_is_not_trained_in_silence() {
    let t = Scratch::new();
    t.run("train tiny.toml --set network.dit.learn_sigma=true")
        .refused(2, &["network.learn_sigma = true; ", "no training term", "pentimento import"]);
    assert!(!t.path("runs").exists());
}

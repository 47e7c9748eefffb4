//! Pictures are functions of seed, number and settings, and other programs can read them.

use crate::scratch::{Scratch, names, read_png};
use pentimento_io::npz::Npz;
use pentimento_io::{Values, png_out};
use std::path::Path;

fn pixels(path: &Path) -> Vec<u8> {
    read_png(path).pixels
}

#[test]
fn the_same_command_draws_the_same_bytes_in_any_batch() {
    let t = Scratch::new();
    t.train("r", "--set train.images=800");
    let draw = |args: &str| {
        let said = t.run(&format!("sample r --steps 8 --sampler heun {args}"));
        assert_eq!(said.code, Some(0), "{said:?}");
    };
    draw("-n 64 --out a --npz");
    draw("-n 64 --out b --npz");
    let files = names(&t.path("a"));
    assert_eq!(files.len(), 65, "{files:?}");
    assert_eq!((files[17].as_str(), files[64].as_str()), ("000017.png", "samples.npz"));
    assert!(std::fs::read(t.path("a.png")).unwrap() == std::fs::read(t.path("b.png")).unwrap(), "the grids");
    // The folder holds drawn pictures and nothing else that would be counted.
    let said = t.run("measure psnr a b");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("64"), "{said:?}");
    for name in &files {
        let read = |folder: &str| std::fs::read(t.path(folder).join(name)).unwrap();
        assert!(read("a") == read("b"), "{name} differs");
    }
    // Picture 17 alone, without being told its class.
    draw("-n 1 --first 17 --batch 1 --out alone");
    assert_eq!(names(&t.path("alone")), ["000017.png"]);
    let (a, b) = (pixels(&t.path("a/000017.png")), pixels(&t.path("alone/000017.png")));
    let near = a.iter().zip(&b).filter(|(a, b)| a.abs_diff(**b) <= 1).count();
    assert!(a.len() == b.len() && near as f64 >= 0.999 * a.len() as f64, "{near} of {}", a.len());
    draw("-n 20 --batch 7 --out sevens");
    let far = (0..20).map(|i| {
        let name = format!("{i:06}.png");
        let (a, b) = (pixels(&t.path("a").join(&name)), pixels(&t.path("sevens").join(&name)));
        a.iter().zip(&b).filter(|(a, b)| a.abs_diff(**b) > 1).count()
    });
    assert!(far.sum::<usize>() <= 1);
    draw("-n 1 --seed 1 --out other");
    assert_ne!(pixels(&t.path("a/000000.png")), pixels(&t.path("other/000000.png")));
    // Products in bf16: almost the same picture.
    draw("-n 1 --precision bf16 --out half");
    let (a, b) = (pixels(&t.path("a/000000.png")), pixels(&t.path("half/000000.png")));
    let apart = a.iter().zip(&b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64;
    assert!(apart > 0.0 && apart < 10.0, "{apart} of 255");
    let said = t.run("sample r --precision fp8");
    assert!(said.code == Some(2) && said.err.contains("fp8: choose one of fp32, bf16, auto"), "{said:?}");
}

#[test]
fn pictures_say_how_they_were_made_and_npz_is_the_evaluators() {
    let t = Scratch::new();
    t.train("r", "--set train.images=80");
    let said = t.run("sample r -n 3 --class 7 --seed 5 --first 4 --guidance 2.5 --npz --out d");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.out.lines().collect::<Vec<_>>(), ["d/samples.npz", "d.png"]);
    let texts = png_out::texts(&t.path("d/000005.png")).unwrap();
    let text = |key: &str| texts.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()).unwrap();
    let parameters = text("parameters");
    assert!(parameters.starts_with("7\nSteps: 2, Sampler: euler, "), "{parameters}");
    for pair in ["CFG scale: 2.5", "Seed: 5", "Sample: 5", "Size: 8x8"] {
        assert!(parameters.contains(pair), "{pair}: {parameters}");
    }
    let plan: serde_json::Value = serde_json::from_str(&text("pentimento")).unwrap();
    assert_eq!((&plan["seed"], &plan["number"], &plan["images"]), (&5.into(), &5.into(), &80.into()));
    assert_eq!(plan["recipe"]["train"]["lr"], 1e-3);
    assert_eq!(plan["sample"]["guidance"], 2.5);
    assert_eq!(png_out::texts(&t.path("d.png")).unwrap().len(), 2);
    let npz = Npz::open(&t.path("d/samples.npz")).unwrap();
    assert_eq!(npz.names().collect::<Vec<_>>(), ["arr_0", "arr_1"]);
    let (images, labels) = npz.batch().unwrap();
    assert_eq!((images.shape(), labels), ([3, 8, 8, 3].as_slice(), Some(vec![7, 7, 7])));
    let Values::U8(bytes) = images.values() else { panic!("{:?}", images.values()) };
    let grey: Vec<u8> = bytes[192..384].chunks(3).map(|p| p[0]).collect();
    assert_eq!(grey, pixels(&t.path("d/000005.png")));
}

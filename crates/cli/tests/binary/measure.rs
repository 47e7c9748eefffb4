//! `pentimento measure`: what it prints, and what it refuses.

use crate::scratch::{Said, Scratch};
use pentimento_io::features::Features;
use pentimento_io::reference::{Moments, Reference, write_batch};
use pentimento_io::safetensors::Reader;
use pentimento_io::{Array, Values};
use serde_json::Value;
use std::path::Path;
use tch::{CModule, Device, Kind, Tensor};

/// Bytes without a pattern that a picture measure could see.
fn byte(k: usize, salt: usize) -> u8 {
    u8::try_from((k * 7919 + salt * 104_729 + (k * k) % 251) % 256).unwrap()
}

/// An ADM batch of `n` colour pictures.
fn batch(t: &Scratch, name: &str, [n, h, w]: [usize; 3], salt: usize) {
    let pixels = (0..n * h * w * 3).map(|k| byte(k, salt)).collect();
    write_batch(&t.path(name), &Array::new(vec![n, h, w, 3], Values::U8(pixels)), None).unwrap();
}

/// A table of `n` features of width `d`, said to be of `block` if that is not empty.
fn table(t: &Scratch, name: &str, [n, d]: [usize; 2], block: &str) {
    let values = (0..n * d).map(|k| f32::from(byte(k, n)) / 64.0).collect();
    let stated = [("features", block), ("run", "runs/a"), ("images", "640"), ("pool", "mean")];
    let provenance = stated.into_iter().filter(|_| !block.is_empty()).map(|(k, v)| (k.to_owned(), v.to_owned()));
    let table = Features {
        baselines: None,
        feature: Array::new(vec![n, d], Values::F32(values)),
        index: (0..n as i64).collect(),
        label: None,
        split: None,
        factors: Vec::new(),
        provenance: provenance.collect(),
    };
    if name.ends_with("npz") { table.write_npz(&t.path(name)) } else { table.write_parquet(&t.path(name)) }.unwrap();
}

fn json(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(said.out.trim()).unwrap()
}

#[test]
fn pictures_are_compared_picture_by_picture() {
    let t = Scratch::new();
    batch(&t, "a.npz", [6, 12, 12], 0);
    batch(&t, "b.npz", [6, 12, 12], 1);
    let said = t.run("measure psnr a.npz b.npz");
    assert_eq!(said.code, Some(0), "{said:?}");
    for word in [
        "A  a.npz  N 6, 432 wide; extractor raw pixels; resize none: 12x12, colour",
        "B  b.npz  N 6",
        "95 %, mean of 6 pairs, bootstrap",
    ] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    let got = json(&t.run("measure ssim a.npz a.npz --json"));
    assert!((got["values"]["ssim"]["value"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{got}");
    let got = json(&t.run("measure ssim a.npz b.npz --window uniform --json"));
    let [low, high] = [0, 1].map(|k| got["values"]["ssim"]["interval"][k].as_f64().unwrap());
    let value = got["values"]["ssim"]["value"].as_f64().unwrap();
    assert!(low <= value && value <= high && value < 0.9, "{got}");
    assert_eq!(
        (&got["metric"], &got["a"]["n"], &got["b"]["extractor"]),
        (&"ssim".into(), &6.into(), &"raw pixels".into())
    );
    let equal = t.run("measure psnr a.npz a.npz");
    assert!(equal.out.contains("inf") && equal.out.contains("6 of 6 pairs are equal"), "{equal:?}");
}

#[test]
fn folders_tables_and_statistics_are_measured() {
    let t = Scratch::new();
    for k in 0..5 {
        crate::scratch::write_png(&t.path(&format!("folder/{k}.png")), 40 * k);
    }
    let said = json(&t.run("measure energy folder folder --json"));
    assert_eq!((&said["a"]["n"], &said["a"]["width"]), (&5.into(), &64.into()));
    let said = json(&t.run("measure energy folder folder --px 4 --json"));
    assert_eq!(said["a"]["resize"], "cropped and averaged to 4x4, grey");

    table(&t, "x.parquet", [40, 3], "mid @ 0.1");
    table(&t, "y.npz", [30, 3], "mid @ 0.1");
    let got = json(&t.run("measure precision-recall x.parquet x.parquet --json"));
    assert_eq!(got["values"]["precision"]["value"], 1.0);
    assert_eq!(got["a"]["extractor"], "mid @ 0.1 of runs/a, images 640, pool mean");
    for (metric, name) in
        [("kid", "kid"), ("density-coverage", "coverage"), ("sliced-wasserstein", "sliced-wasserstein"), ("mmd", "mmd")]
    {
        let got = json(&t.run(&format!("measure {metric} x.parquet y.npz --subset-size 20 --json")));
        assert!(got["values"][name]["value"].is_f64(), "{got}");
    }
    let got = json(&t.run("measure inception x.parquet --splits 4 --json"));
    assert!(got["values"]["inception"]["value"].as_f64().unwrap() >= 1.0 && got.get("b").is_none(), "{got}");

    // A unit Gaussian against one moved by (3, 4): 25.
    let unit = |mean: [f64; 2]| Reference {
        pool: Moments { mean: mean.to_vec(), covariance: vec![1.0, 0.0, 0.0, 1.0] },
        spatial: None,
    };
    unit([0.0, 0.0]).write(&t.path("p.npz"), None).unwrap();
    unit([3.0, 4.0]).write(&t.path("q.npz"), None).unwrap();
    let said = t.run("measure frechet p.npz q.npz");
    assert!(said.out.contains("N not stated, 2 wide; extractor given statistics"), "{said:?}");
    assert!(said.out.lines().any(|l| l.starts_with("frechet") && l.contains(" 25.000000")), "{said:?}");
}

#[test]
fn help_has_a_line_for_each_metric() {
    let said = Scratch::new().run("measure --help");
    for line in ["- frechet:", "- kid:", "- inception:", "- sliced-wasserstein:", "- ms-ssim:", "0 is best"] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
}

/// Codes that are three factors, scaled, beside a constant column's worth of noise.
#[test]
fn representations_are_measured_by_shape_by_likeness_and_against_factors() {
    let t = Scratch::new();
    let n = 400;
    let factor = |i: usize, f: usize| f64::from(u32::try_from(i.div_euclid([1, 4, 20][f]) % [4, 5, 20][f]).unwrap());
    let write = |name: &str, mix: &dyn Fn(usize) -> [f64; 3], first: i64| {
        let table = Features {
            baselines: None,
            feature: Array::new(vec![n, 3], Values::F32((0..n).flat_map(mix).map(|v| v as f32).collect())),
            index: (first..first + n as i64).collect(),
            label: None,
            split: None,
            factors: (0..3)
                .map(|f| (["lean", "mean", "keen"][f].to_owned(), (0..n).map(|i| factor(i, f)).collect()))
                .collect(),
            provenance: Default::default(),
        };
        table.write_parquet(&t.path(name)).unwrap();
    };
    let pure = |i: usize| [0, 1, 2].map(|f| factor(i, f) / [4.0, 5.0, 20.0][f]);
    // A rotation by a third of a turn about (1, 1, 1).
    let turned = |i: usize| [0, 1, 2].map(|f| 2.0 / 3.0 * pure(i).iter().sum::<f64>() - pure(i)[f]);
    write("pure.parquet", &pure, 0);
    write("turned.parquet", &turned, 0);
    write("others.parquet", &pure, 7);
    let value = |args: &str, name: &str| {
        json(&t.run(&format!("measure {args} --json")))["values"][name]["value"].as_f64().unwrap()
    };
    for (metric, name) in
        [("mig", "mig"), ("modularity", "modularity"), ("dci", "disentanglement"), ("mcc", "mcc"), ("sap", "sap")]
    {
        let [own, mixed] = ["pure", "turned"].map(|file| value(&format!("{metric} {file}.parquet"), name));
        assert!(own > 0.7 && mixed < own - 0.01, "{metric}: {own} {mixed}");
    }
    let info = ["pure", "turned"].map(|file| value(&format!("infomec {file}.parquet"), "modularity"));
    assert!(info[0] > info[1] + 0.05, "{info:?}");
    assert!((value("cka pure.parquet turned.parquet", "cka") - 1.0).abs() < 1e-6);
    assert!(value("procrustes pure.parquet turned.parquet", "procrustes") < 1e-6);
    assert!(value("cknna pure.parquet pure.parquet", "cknna") > 0.99);
    assert!((value("mutual-neighbours pure.parquet pure.parquet -k 5", "mutual-neighbours") - 1.0).abs() < 1e-9);
    assert!((value("svcca pure.parquet turned.parquet", "svcca") - 1.0).abs() < 1e-6);
    let rank = value("rank pure.parquet", "effective-rank");
    assert!((2.5..=3.0 + 1e-9).contains(&rank), "{rank}");
    let common =
        ["pure", "turned"].map(|file| value(&format!("total-correlation {file}.parquet"), "total-correlation"));
    assert!(common[0].abs() < 1e-3 && common[1] > common[0], "independent factors have nothing in common: {common:?}");
    for metric in ["hubness", "uniformity"] {
        assert!(value(&format!("{metric} pure.parquet"), metric).is_finite());
    }
    table(&t, "x.npz", [40, 3], "mid @ 0.1");
    batch(&t, "p.npz", [4, 8, 8], 0);
    let plain = t.run("measure dimension x.npz");
    assert!(plain.code == Some(0) && plain.out.contains("two-nn") && plain.out.contains("95 %"), "{plain:?}");
    for (args, words) in [
        ("measure mig x.npz", &["x.npz: carries no factors that vary", "sprites"][..]),
        ("measure cka pure.parquet others.parquet", &["not of the same items"]),
        ("measure cka p.npz p.npz", &["give tables, of one data set"]),
        ("measure cka pure.parquet", &["cka: compares two sets"]),
        ("measure mig pure.parquet pure.parquet", &["mig: is of one set"]),
    ] {
        t.run(args).refused(2, words);
    }
}

/// A TorchScript file of a function of pictures.
fn network(t: &Scratch, name: &str, f: &mut dyn FnMut(&Tensor) -> Vec<Tensor>) {
    let example = Tensor::zeros([2, 3, 12, 12], (Kind::Float, Device::Cpu));
    let module = CModule::create_by_tracing("net", "forward", &[example], &mut |xs: &[Tensor]| f(&xs[0])).unwrap();
    module.save(t.path(name)).unwrap();
}

#[test]
fn a_users_own_network_gives_features_statistics_and_maps() {
    let t = Scratch::new();
    batch(&t, "a.npz", [30, 12, 12], 0);
    batch(&t, "b.npz", [30, 12, 12], 1);
    network(&t, "mean.pt", &mut |x| vec![x.mean_dim([2, 3].as_slice(), false, Kind::Float)]);
    let said = t.run("measure frechet a.npz b.npz --extractor mean.pt --extractor-input unit --force");
    assert!(said.code == Some(0) && said.out.contains("N 30, 3 wide; extractor mean.pt (unit)"), "{said:?}");
    let direct = json(&t.run("measure frechet a.npz b.npz --extractor mean.pt --force --json"));
    let kept = t.run("measure statistics a.npz --extractor mean.pt --out a-stats.npz");
    assert!(kept.code == Some(0) && kept.out.contains("a-stats.npz"), "{kept:?}");
    let later = json(&t.run("measure frechet a-stats.npz b.npz --extractor mean.pt --force --json"));
    let of = |v: &Value| v["values"]["frechet"]["value"].as_f64().unwrap();
    assert!(of(&direct) > 0.0 && (of(&direct) - of(&later)).abs() < 1e-9 * of(&direct), "{direct} {later}");

    // Two maps of a network that PyTorch saved, and what torch-fidelity makes of them.
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/torchscript");
    for file in ["maps.pt", "a.npz", "b.npz", "weights.npz"] {
        std::fs::copy(fixture.join(file), t.path(&format!("ours-{file}"))).unwrap();
    }
    let value = |args: &str| json(&t.run(args))["values"]["lpips"]["value"].as_f64().unwrap();
    let saved = Reader::open(&fixture.join("numbers.safetensors")).unwrap().read_all().unwrap();
    let Values::F64(each) = saved[0].1.values() else { panic!("doubles") };
    let want = each.iter().sum::<f64>() / each.len() as f64;
    let got = value("measure lpips ours-a.npz ours-b.npz --extractor ours-maps.pt --weights ours-weights.npz --json");
    assert!(want > 0.0 && (got - want).abs() < 1e-6 * want, "{got} {want}");
    assert_eq!(value("measure lpips ours-a.npz ours-a.npz --extractor ours-maps.pt --json"), 0.0);

    std::fs::write(t.path("broken.pt"), b"nothing").unwrap();
    for (args, words) in [
        ("measure kid a.npz b.npz --extractor broken.pt", &["broken.pt: is no TorchScript", "torch.jit.trace"][..]),
        ("measure kid a.npz b.npz --extractor none.pt", &["none.pt: no such file"]),
        ("measure kid ours-a.npz ours-b.npz --extractor ours-maps.pt --subset-size 3", &["answers with 2 tensors"]),
        ("measure lpips a.npz b.npz", &["--extractor"]),
        ("measure lpips a.npz b.npz --extractor mean.pt", &["LPIPS compares maps"]),
        ("measure statistics a.npz", &["--out"]),
        ("measure frechet a.npz b.npz --out x.npz", &["--out goes with statistics"]),
    ] {
        t.run(args).refused(2, words);
    }
}

#[test]
fn what_is_not_comparable_is_one_sentence() {
    let t = Scratch::new();
    batch(&t, "a.npz", [6, 12, 12], 0);
    batch(&t, "small.npz", [6, 8, 8], 1);
    batch(&t, "four.npz", [4, 12, 12], 1);
    table(&t, "x.npz", [40, 3], "mid @ 0.1");
    table(&t, "y.npz", [30, 3], "out @ 0.1");
    table(&t, "foreign.npz", [30, 3], "");
    table(&t, "wide.npz", [40, 5], "mid @ 0.1");
    let unit = Reference { pool: Moments { mean: vec![0.0], covariance: vec![1.0] }, spatial: None };
    unit.write(&t.path("stats.npz"), None).unwrap();
    for (args, words) in [
        ("psnr a.npz small.npz", vec!["a.npz is 12x12 and small.npz is 8x8", "--px"]),
        ("psnr a.npz four.npz", vec!["a.npz has 6 and four.npz has 4", "-n"]),
        ("psnr a.npz x.npz", vec!["compares pictures, and x.npz holds none"]),
        (
            "energy x.npz y.npz",
            vec!["different extractors: x.npz is mid @ 0.1 of runs/a", "y.npz is out @ 0.1", "--force"],
        ),
        ("energy x.npz foreign.npz", vec!["foreign.npz is not stated"]),
        ("energy x.npz wide.npz", vec!["x.npz is 3 wide and wide.npz is 5"]),
        ("energy x.npz stats.npz", vec!["needs the items, and stats.npz holds statistics only"]),
        ("frechet x.npz x.npz", vec!["40 items in x.npz, fewer than 2048", "use kid", "--force"]),
        ("frechet x.npz stats.npz --force", vec!["x.npz is 3 wide and stats.npz is 1"]),
        ("kid x.npz x.npz", vec!["x.npz has 40 items and a subset 1000", "--subset-size"]),
        ("energy x.npz", vec!["compares two sets; name the second"]),
        ("inception x.npz x.npz", vec!["leave out the second"]),
        ("inception a.npz", vec!["needs a classifier's outputs, and a.npz is raw pixels"]),
        ("ms-ssim a.npz a.npz", vec!["12 found, at least 161"]),
        ("energy nowhere x.npz", vec!["nowhere"]),
    ] {
        t.run(&format!("measure {args}")).refused(2, &words);
    }
    assert_eq!(t.run("measure frechet x.npz x.npz --force").code, Some(0));
    assert_eq!(t.run("measure energy x.npz y.npz --force").code, Some(0));
    assert_eq!(t.run("measure psnr a.npz small.npz --px 8").code, Some(0));
    assert_eq!(t.run("measure psnr a.npz four.npz -n 4").code, Some(0));
}

#[test]
fn a_frechet_distance_wants_equal_n() {
    let t = Scratch::new();
    table(&t, "a.npz", [2048, 2], "mid @ 0.1");
    table(&t, "b.npz", [2049, 2], "mid @ 0.1");
    let words = ["the estimate depends on N, and a.npz has 2048 items and b.npz has 2049"];
    t.run("measure frechet a.npz b.npz").refused(2, &words);
    let got = json(&t.run("measure frechet a.npz b.npz -n 2048 --json"));
    assert_eq!((&got["a"]["n"], &got["b"]["n"]), (&2048.into(), &2048.into()));
    let got = json(&t.run("measure frechet a.npz a.npz --json"));
    assert!(got["values"]["frechet"]["value"].as_f64().unwrap() < 1e-9, "{got}");
}

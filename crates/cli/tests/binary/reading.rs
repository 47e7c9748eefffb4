//! Features are read into tables and probed, always beside what needs no training.

use crate::scratch::{Said, Scratch};
use pentimento_io::Values;
use pentimento_io::features::Features;
use serde_json::Value;

fn done(said: Said) -> Said {
    assert_eq!(said.code, Some(0), "{said:?}");
    said
}

fn report(said: Said) -> Value {
    serde_json::from_str(&done(said).out).unwrap()
}

/// Which targets have a gain, in order.
fn targets(report: &Value) -> Vec<&str> {
    report["gains"].as_array().unwrap().iter().map(|g| g[0].as_str().unwrap()).collect()
}

#[test]
fn features_are_probed_beside_pixels_and_a_random_network() {
    let t = Scratch::new();
    t.train("r", "--set train.images=400");
    done(t.run("encode r digits -n 400 --pool grid2"));
    let lines = done(t.run("probe r/features.parquet")).out;
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (line, words) in lines.iter().zip([
        ["label", "blocks.0 @ 0.1", "["],
        ["label", "raw pixels", "64 wide"],
        ["label", "random network, blocks.0 @ 0.1", "["],
        ["label", "gain over pixels ", ", over a random network "],
    ]) {
        assert!(words.iter().all(|w| line.contains(w)), "{words:?}: {line}");
    }

    let found = report(t.run("probe r/features.parquet --json"));
    let score = |row: usize| found["rows"][row]["score"].as_f64().unwrap();
    for (place, other) in [(1, 1), (2, 2)] {
        let gain = &found["gains"][0][place];
        let [value, low, high] = ["value", "low", "high"].map(|key| gain[key].as_f64().unwrap());
        assert!((value - (score(0) - score(other))).abs() < 1e-9 && low <= value && value <= high, "{gain}");
    }
    // Pixels of handwritten digits are readable by a linear probe. All 400 items are read, though the run learned from 200.
    let items: u64 = found["items"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert!(score(1) > 0.8 && items == 400, "{found}");

    // Both formats hold the same numbers; the baselines are the items and the network before its training.
    done(t.run("encode r digits -n 400 --pool grid2 --out same.npz"));
    let table = Features::read_parquet(&t.path("r/features.parquet")).unwrap();
    let same = Features::read_npz(&t.path("same.npz")).unwrap();
    assert_eq!(table, same);
    let beside = table.baselines.unwrap();
    let Values::F32(pixels) = beside.pixels.values() else { panic!("{:?}", beside.pixels.values()) };
    assert!(beside.pixels.shape() == [400, 64] && pixels.iter().all(|v| (-1.0..=1.0).contains(v)));
    assert!(beside.random.shape() == table.feature.shape() && beside.random != table.feature);
    t.train("other", "--set train.images=80");
    done(t.run("encode other digits -n 400 --pool grid2 --out other.npz"));
    let other = Features::read_npz(&t.path("other.npz")).unwrap();
    assert!(other.baselines.unwrap() == beside && other.feature != table.feature, "a random start is that of the seed");
}

#[test]
fn a_table_without_baselines_says_so() {
    let t = Scratch::new();
    t.train("r", "--set train.images=80");
    done(t.run("encode r digits -n 200 --no-baselines --out bare.parquet"));
    assert_eq!(Features::read_parquet(&t.path("bare.parquet")).unwrap().baselines, None);
    let said = done(t.run("probe bare.parquet"));
    assert_eq!(said.out.lines().count(), 1, "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    assert!(said.err.contains("no columns `pixels` and `random`") && said.err.contains("--no-baselines"), "{said:?}");
    assert_eq!(targets(&report(t.run("probe bare.parquet --json"))), [""; 0]);
    t.run("encode r digits --out bare.csv").refused(2, &["bare.csv", ".parquet or .npz"]);
}

#[test]
fn targets_are_the_label_all_factors_or_names() {
    let t = Scratch::new();
    t.train("r", "--set data.name=sprites --set data.px=8 --set train.images=80");
    done(t.run("encode r sprites -n 300 --out f.parquet"));
    let of = |args: &str| report(t.run(&format!("probe {args} --json")));
    assert_eq!(targets(&of("f.parquet")), ["label", "scale", "x", "y"]);
    assert_eq!(targets(&of("f.parquet --target factor")), ["scale", "x", "y"]);
    assert_eq!(targets(&of("f.parquet --target label")), ["label"]);
    assert_eq!(targets(&of("f.parquet --target y --target factor")), ["y", "scale", "x"]);
    assert_eq!(targets(&of("f.parquet --target colour --kind knn")), ["colour"]);
    t.run("probe f.parquet --target scael")
        .refused(2, &["--target = scael; choose one of label, factor, shape, colour, scale", "did you mean scale?"]);

    let linear = of("r -n 300 --target x");
    let near = of("r -n 300 --target x --kind knn");
    assert_eq!((targets(&linear), targets(&near)), (vec!["x"], vec!["x"]));
    assert_ne!(linear["rows"][1]["score"], near["rows"][1]["score"]);
    let saved: Value = serde_json::from_slice(&std::fs::read(t.path("r/probe.json")).unwrap()).unwrap();
    assert_eq!(saved, near);
    assert_eq!(targets(&of("r -n 300 --target factor")), ["scale", "x", "y"]);
    t.run("probe r --target z").refused(2, &["--target = z; choose one of label, factor, shape"]);

    // Digits have no factors, so only the label can be meant.
    t.train("d", "--set train.images=80");
    t.run("probe d -n 200 --target factor").refused(2, &["--target = factor; choose one of label"]);
    assert_eq!(targets(&of("d -n 200")), ["label"]);
}

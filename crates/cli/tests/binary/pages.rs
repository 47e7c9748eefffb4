//! A method of the catalogue is trained, continued, read, drawn from, probed and reported like any other run.

use crate::scratch::{Said, Scratch, assert_same_history, names, read_png};
use pentimento_io::features::Features;

const RECIPE: &str = r#"
method = "vae"
hidden = 16
latent = 3
batch = 20

[data]
train = "digits"

[train]
images = 1600
log_images = 200
"#;

fn scratch() -> Scratch {
    let t = Scratch::new();
    std::fs::write(t.path("page.toml"), RECIPE).unwrap();
    t
}

fn done(said: Said) -> Said {
    assert_eq!(said.code, Some(0), "{said:?}");
    said
}

#[test]
fn a_page_trains_and_its_run_is_of_use() {
    let t = scratch();
    t.run("train page.toml --outdir r").weights();
    assert!(names(&t.path("r/samples")).len() == 10, "a picture at every tenth");
    let grid = read_png(&t.path("r/samples/000001600.png"));
    assert!(grid.height >= 3 * 8, "held-out items, decoded, drawn: {}", grid.height);

    done(t.run("encode r -n 300"));
    let table = Features::read_parquet(&t.path("r/features.parquet")).unwrap();
    assert_eq!(table.feature.shape(), [300, 3]);
    assert!(table.label.is_some() && table.baselines.is_some());
    let lines = done(t.run("probe r/features.parquet")).out;
    assert!(lines.contains("label") && lines.contains("gain over pixels"), "{lines}");
    done(t.run("probe r -n 300"));

    done(t.run("sample r -n 5 --seed 3 --npz"));
    assert_eq!(names(&t.path("r/drawn")).len(), 6);
    done(t.run("sample r -n 1 --first 4 --seed 3 --out again"));
    let [one, many] = ["again/000004.png", "r/drawn/000004.png"].map(|f| read_png(&t.path(f)));
    assert_eq!(one, many, "sample 4 is the same picture in every batch");

    done(t.run("report r"));
    let page = std::fs::read_to_string(t.path("r/report.html")).unwrap();
    assert!(["vae", "1600 of 1600 images", "latent = 3", "Probes"].iter().all(|w| page.contains(w)));
    t.run("judge r").refused(2, &["r: is a model of vae"]);
    t.run("sample r --steps 3").refused(2, &["--steps", "vae draws as its own settings say"]);
    t.run("sample r --class 3").refused(2, &["--class = 3", "this model knows no classes"]);
    t.run("encode r --block 3").refused(2, &["--block", "vae has one code"]);
}

#[test]
fn a_page_continues_bit_for_bit_and_its_recipe_trains_it_again() {
    let t = scratch();
    let whole = t.run("train page.toml --outdir whole").weights();
    t.run("train page.toml --outdir parts --set train.images=640").weights();
    let said = t.run("train page.toml --outdir parts --set train.images=1600 --set train.save_images=160 --set train.sample_images=160 --set train.validate_images=160");
    assert!(said.err.contains("resuming at 640 of 1600 images"), "{said:?}");
    assert_eq!(said.weights(), whole);
    assert_eq!(t.run("train whole/recipe.toml --outdir again").weights(), whole);
    assert_same_history(&t.path("whole"), &t.path("again"));
    t.run("train page.toml --outdir whole --set latent=4").refused(2, &["whole", "latent was 3 and is 4 now"]);
}

#[test]
fn what_is_mistyped_in_a_page_is_named() {
    let t = scratch();
    std::fs::write(t.path("foreign.toml"), "method = \"vea\"").unwrap();
    let cases: [(&str, &[&str]); 14] = [
        ("train page.toml --set latnet=4", &["unknown field `latnet`", "did you mean `latent`?"]),
        ("train page.toml --set train.lrr=1", &["[train]", "unknown field `lrr`", "did you mean `lr`?"]),
        ("train page.toml --set train.batch=0", &["[train]", "must be above 0"]),
        ("train page.toml --set seed=-1", &["seed = -1"]),
        ("train page.toml --set hidden=-5", &["hidden = -5; must be at least 1"]),
        ("train page.toml --set latent=0", &["latent = 0; must be at least 1"]),
        ("train page.toml --set hidden=1000000000000", &["hidden = 1000000000000; must be at most 65536"]),
        ("train page.toml --set train.precision=bf16", &["knows neither precision nor micro_batch"]),
        ("reproduce gon --try 100 --set rates=[]", &["rates = []; must not be empty"]),
        ("reproduce gon --try 100 --set step=nan", &["step", "must be"]),
        ("train foreign.toml", &["no method is called vea", "did you mean vae?"]),
        ("train vea", &["no method is called vea"]),
        ("train deepwalk", &["trains no single model", "pentimento reproduce deepwalk"]),
        ("train vae --set data.train=mnistt", &["mnistt: no such data set or path"]),
    ];
    for (args, words) in cases {
        t.run(args).refused(2, words);
    }
    let plan = done(t.run("train vae --set data.train=digits --dry-run")).out;
    assert!(
        plan.contains("hidden = 500") && plan.contains("held out") && plan.contains("steps of 100 images"),
        "{plan}"
    );
    t.run("train gumbel-softmax --set data.train=digits --set train.images=400 --outdir g").weights();
    let said = t.run("sample g -n 3");
    assert_eq!(said.code, Some(0), "{said:?}");
}

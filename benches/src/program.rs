//! Row 4: whole programs, from launch to exit: a short training with pictures at its end, and one picture from a saved run.

use crate::ask::{Ask, Work};
use anyhow::{Context, Result, ensure};
use pentimento_io::{atomic, system, text};
use pentimento_nn::UnetConfig;
use pentimento_nn::label::NullLabel;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program's own binary, on a recipe of its own.
pub struct Program {
    binary: PathBuf,
    folder: PathBuf,
    threads: i32,
    /// Whether it is training that is timed.
    trains: bool,
    parameters: f64,
}

impl Program {
    /// Writes the recipe; for a picture, trains once.
    pub fn new(ask: &Ask, trains: bool) -> Result<Self> {
        let here = std::env::current_exe().context("where this program lies")?;
        let binary = here.with_file_name("pentimento");
        ensure!(binary.is_file(), "{}: not built; cargo build --workspace builds it", binary.display());
        let folder = std::path::absolute(&ask.folder).context("the folder of the row")?;
        // The peer's last label stands for none; ours is learned beside those of the data.
        let network = UnetConfig { null_label: NullLabel::Learned, ..ask.size.unet()?.ours()?.0 };
        let mut recipe = toml::Table::try_from(json!({
            "data": {"name": folder.join("png"), "validation": 0.0},
            "diffusion": {"path": "table_linear(1000)", "prediction": "epsilon"},
            "train": {"images": ask.size.items, "batch": ask.batch, "lr": 1e-4, "workers": 2},
            "sample": {"sampler": "ddim", "steps": ask.steps, "guidance": ask.guidance},
        }))?;
        let network = toml::Table::from_iter([("unet".into(), toml::Value::try_from(network)?)]);
        recipe.insert("network".into(), network.into());
        let recipe = toml::to_string(&recipe)?;
        atomic::write_bytes(&folder.join("recipe.toml"), recipe.as_bytes())?;
        let mut this = Self { binary, folder, threads: ask.threads, trains, parameters: 0.0 };
        this.train()?;
        let plan: serde_json::Value = serde_json::from_str(&text::read(&this.folder.join("ours/plan.json"))?)?;
        this.parameters = plan["parameters"].as_f64().context("plan.json holds no parameters")?;
        Ok(this)
    }

    fn launch(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(args).args(["--threads", &self.threads.to_string()]).current_dir(&self.folder);
        let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
        ensure!(done.status.success(), "{}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    fn train(&mut self) -> Result<()> {
        self.launch(&["train", "recipe.toml", "--outdir", "ours", "--fresh"])
    }

    fn picture(&self) -> PathBuf {
        self.folder.join("ours-picture/000000.png")
    }
}

impl Work for Program {
    fn run(&mut self) -> Result<()> {
        if self.trains {
            return self.train();
        }
        self.launch(&["sample", "ours", "-n", "1", "--out", "ours-picture"])
    }

    /// Of the programs.
    fn peak_mib(&self) -> f64 {
        system::launched_peak_mib()
    }

    /// Learned scalars, and the sides of a picture that it draws.
    fn check(&mut self) -> Result<Vec<f64>> {
        self.launch(&["sample", "ours", "-n", "1", "--out", "ours-picture"])?;
        let [w, h] = size(&self.picture())?;
        Ok(vec![self.parameters, w, h])
    }
}

fn size(png: &Path) -> Result<[f64; 2]> {
    let bytes = pentimento_io::source::Source::open(png)?.whole(16 << 20)?;
    let picture = pentimento_io::picture::Picture::decode(png, &bytes, &pentimento_io::limits::Limits::STANDARD)?;
    Ok([f64::from(picture.width), f64::from(picture.height)])
}

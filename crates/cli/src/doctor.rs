//! `pentimento doctor`

use crate::exit::{DONE, Outcome};
use crate::terminal::result;
use pentimento_io::system;
use pentimento_torch_shim as shim;
use std::path::Path;

#[derive(clap::Args)]
pub struct Args {
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let config = shim::show_config();
    let mut found: Vec<(&str, String)> = Vec::new();
    found.push((
        "pentimento",
        format!("{} (numerics {})", env!("CARGO_PKG_VERSION"), pentimento_core::numerics(tch::Kind::Float)),
    ));
    found.push(("libtorch", "2.11.0".into()));
    found.push((
        "libtorch file",
        system::loaded_library("libtorch_cpu").unwrap_or("not found among the loaded libraries".into()),
    ));
    let part =
        |key: &str| config.lines().find(|l| l.contains(key)).unwrap_or("").trim().trim_start_matches("- ").to_owned();
    found.push(("oneDNN", part("DNN").if_empty("not in this build")));
    found.push(("processor", system::processor()));
    let bf16 = match shim::bf16(tch::Device::Cpu) {
        shim::Bf16::Faster => "native",
        shim::Bf16::Slower => "native but slower; precision \"auto\" means fp32",
        shim::Bf16::Imitated => "imitated; precision \"auto\" means fp32",
    };
    found.push(("kernels", format!("{}, bf16 {bf16}", shim::cpu_capability())));
    found.push((
        "threads",
        format!("{} of {} cores", tch::get_num_threads(), std::thread::available_parallelism().map_or(1, usize::from)),
    ));
    let cuda = if tch::Cuda::is_available() {
        format!("{} devices", tch::Cuda::device_count())
    } else {
        "not in this libtorch; --device cpu is the choice".into()
    };
    found.push(("CUDA", cuda));
    let (all, free) = system::machine_memory();
    found.push(("memory", format!("{:.1} GiB, {:.1} GiB available", all / 1024.0, free / 1024.0)));
    for folder in pentimento_data::data_folders() {
        let there = if folder.is_dir() { "present" } else { "absent" };
        found.push(("data folder", format!("{} ({there})", folder.display())));
    }
    let disk = system::free_bytes(Path::new("."))
        .map_or("unknown".into(), |b| format!("{:.1} GiB free here", b as f64 / (1u64 << 30) as f64));
    found.push(("disk", disk));
    if args.json {
        let mut map = serde_json::Map::new();
        for (key, value) in found {
            match map.get_mut(key) {
                Some(serde_json::Value::Array(list)) => list.push(value.into()),
                Some(old) => *old = serde_json::json!([old.clone(), value]),
                None => drop(map.insert(key.into(), value.into())),
            }
        }
        result(&serde_json::Value::Object(map).to_string());
    } else {
        for (key, value) in found {
            result(&format!("{key:<14} {value}"));
        }
    }
    Ok(DONE)
}

trait IfEmpty {
    fn if_empty(self, other: &str) -> String;
}

impl IfEmpty for String {
    fn if_empty(self, other: &str) -> String {
        if self.is_empty() { other.into() } else { self }
    }
}

//! Walls between crates: who may depend on whom, who touches bytes, who draws random numbers.

use super::source::{Fault, Source, identifiers, words};

/// Each crate and the crates it may depend on, for building and for tests alike.
const ARROWS: [(&str, &[&str]); 13] = [
    ("torch-shim", &[]),
    ("io", &[]),
    ("linalg", &[]),
    ("core", &["torch-shim"]),
    ("data", &["core", "io"]),
    ("nn", &["core", "io", "torch-shim"]),
    ("diffusion", &["core"]),
    ("latent", &["core", "torch-shim"]),
    ("measure", &["core", "linalg"]),
    ("train", &["core", "torch-shim", "io", "data", "nn", "diffusion", "latent", "measure"]),
    ("claims", &["core", "io", "data", "nn", "measure", "train"]),
    ("methods", &["core", "io", "data", "nn", "diffusion", "latent", "measure", "train", "claims"]),
    (
        "cli",
        &["core", "torch-shim", "io", "data", "nn", "diffusion", "latent", "measure", "train", "claims", "methods"],
    ),
];

/// Crates that must compile without libtorch, and the crates that would bring it.
const WITHOUT_LIBTORCH: [&str; 2] = ["crates/io/Cargo.toml", "xtask/Cargo.toml"];

/// Names of concrete networks, which only `nn` and those above it may say.
const NETWORKS: [&str; 7] = ["pentimento_nn", "Dit", "DiT", "Unet", "UNet", "DitConfig", "UnetConfig"];

/// Functions of libtorch that draw from its process-wide generator; `f_` before them draws as well.
const RANDOM: [&str; 26] = [
    "rand",
    "rand_like",
    "rand_out",
    "randn",
    "randn_like",
    "randn_out",
    "randint",
    "randint_low",
    "randint_like",
    "randint_like_low_dtype",
    "randperm",
    "normal",
    "normal_",
    "uniform",
    "uniform_",
    "bernoulli",
    "bernoulli_",
    "bernoulli_float_",
    "bernoulli_p",
    "multinomial",
    "random_",
    "exponential_",
    "log_normal_",
    "dropout",
    "dropout_",
    "manual_seed",
];

/// Of [`RANDOM`], the names that are also ordinary words: theirs only when called on `Tensor`.
const ONLY_ON_TENSOR: [&str; 3] = ["rand", "normal", "uniform"];

/// Files outside `io` that may read or write bytes, and why.
const MAY_TOUCH_BYTES: [(&str, &str); 1] =
    [("crates/cli/src/doctor.rs", "reads /proc to say what the machine has, which is no format of ours")];

/// Crates that may make, list and name folders (not read or write files): folders of runs, evidence and cached results are theirs.
const MAY_HANDLE_PATHS: [&str; 3] = ["cli", "train", "claims"];

/// Files that may hold process-wide state, and why.
const MAY_HOLD_STATE: [(&str, &str); 2] = [
    ("crates/cli/", "a signal handler can only speak through a static; it is set and read at the command border"),
    (
        "crates/io/src/atomic.rs",
        "counts passages for injected faults and numbers temporary files; no result depends on it",
    ),
];

/// Dependencies in `Cargo.toml` follow [`ARROWS`], and what must compile without libtorch does.
pub fn arrows(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for manifest in sources.iter().filter(|s| s.path.ends_with("/Cargo.toml")) {
        let name = manifest.path.strip_prefix("crates/").and_then(|p| p.strip_suffix("/Cargo.toml"));
        let allowed = name.and_then(|name| ARROWS.iter().find(|(from, _)| *from == name));
        let nested = name.is_some_and(|n| n.contains('/'));
        if name.is_some() && allowed.is_none() && !nested {
            faults.push(
                manifest.fault(0, "a crate that the map of ARCHITECTURE.md and `tidy` do not know; add it to both"),
            );
        }
        for (line, dependency) in dependencies(&manifest.text) {
            let own = dependency.strip_prefix("pentimento-");
            if let (Some((from, to)), Some(own)) = (allowed, own)
                && !to.contains(&own)
            {
                faults.push(manifest.fault(line, format!("{from} must not depend on {own}")));
            }
            let torch = matches!(dependency, "tch" | "torch-sys") || own.is_some_and(|own| own != "io");
            if torch && WITHOUT_LIBTORCH.contains(&manifest.path.as_str()) {
                faults
                    .push(manifest.fault(line, format!("{dependency} needs libtorch, and this crate must do without")));
            }
        }
    }
    faults
}

/// The names under every `dependencies` table of a manifest, with their lines.
fn dependencies(manifest: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    manifest.lines().enumerate().filter_map(move |(i, line)| {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']).ends_with("dependencies");
            return None;
        }
        // `package = "pentimento-x"` renames, and the name that counts is the package's.
        let renamed = line.split_once("package = \"").and_then(|(_, rest)| rest.split('"').next());
        let name = renamed.or_else(|| line.split(['.', '=', ' ']).next())?;
        (inside && !name.is_empty() && !name.starts_with('#')).then_some((i + 1, name))
    })
}

/// `diffusion`, `latent` and `measure` see traits, never a concrete network.
pub fn no_networks(sources: &[Source]) -> Vec<Fault> {
    let blind = |s: &&Source| matches!(s.library(), Some("core" | "diffusion" | "latent" | "measure"));
    let mut faults = Vec::new();
    for source in sources.iter().filter(blind) {
        for network in NETWORKS {
            let what = format!("names the network `{network}`; take a trait of core instead");
            faults.extend(words(&source.code, network).map(|at| source.fault_at(at, what.clone())));
        }
    }
    faults
}

/// Files are opened, read and written in `io`; paths may also be handled where run folders are made.
pub fn only_io_touches_bytes(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources {
        let Some(library) = source.library().filter(|&l| l != "io" && l != "torch-shim") else { continue };
        let exempt = MAY_TOUCH_BYTES.iter().any(|(path, _)| *path == source.path);
        let tests = source.path.ends_with("/tests.rs");
        if exempt || tests {
            continue;
        }
        let code = &source.shipped;
        for (at, word) in identifiers(code) {
            let next = code[at + word.len()..].trim_start();
            // `File` alone is no sign: io has a type of that name. The standard one is imported through `fs`.
            let of_fs = if word == "fs" { next.strip_prefix("::") } else { None };
            let bytes = of_fs.is_some_and(touches_bytes);
            let paths = of_fs.is_some() && !MAY_HANDLE_PATHS.contains(&library);
            if bytes || paths {
                faults.push(source.fault_at(at, "touches files; io reads and writes for everybody"));
            }
        }
    }
    faults
}

/// Whether what follows `fs::` reads or writes: a function, or a list of imports that holds one.
fn touches_bytes(after: &str) -> bool {
    const BYTES: [&str; 6] = ["read", "read_to_string", "write", "copy", "File", "OpenOptions"];
    let list = match after.strip_prefix('{') {
        Some(list) => list.split('}').next().unwrap_or(list),
        None => after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(after),
    };
    identifiers(list).any(|(_, word)| BYTES.contains(&word))
}

/// Noise is addressed: only `core` may call what draws from libtorch's generator, in tests too.
pub fn only_core_draws(sources: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|s| s.is_rust() && s.path.starts_with("crates/")) {
        if source.path.starts_with("crates/core/") {
            continue;
        }
        for (at, word) in identifiers(&source.code) {
            let plain = word.strip_prefix("f_").unwrap_or(word);
            let before = source.code[..at].trim_end();
            let called = source.code[at + word.len()..].starts_with('(');
            let on_tensor = before.ends_with("Tensor::");
            let of_tch = before.ends_with("tch::");
            let method = before.ends_with('.') && !ONLY_ON_TENSOR.contains(&plain);
            if called && RANDOM.contains(&plain) && (on_tensor || of_tch || method) {
                let what = format!("`{word}` draws from libtorch's generator; take addressed noise from core");
                faults.push(source.fault_at(at, what));
            }
        }
    }
    faults
}

/// No process-wide seed, default device or registered callback.
pub fn no_global_state(sources: &[Source]) -> Vec<Fault> {
    const CELLS: [&str; 8] = ["mut", "Mutex", "RwLock", "RefCell", "Cell", "OnceLock", "LazyLock", "OnceCell"];
    let mut faults = Vec::new();
    for source in sources.iter().filter(|s| s.library().is_some()) {
        if MAY_HOLD_STATE.iter().any(|(path, _)| source.path.starts_with(path)) {
            continue;
        }
        let code = &source.shipped;
        for at in words(code, "static").filter(|&at| !code[..at].ends_with('\'')) {
            let item = code[at..].split([';', '=']).next().unwrap_or_default();
            if identifiers(item).any(|(_, w)| CELLS.contains(&w) || w.starts_with("Atomic")) {
                faults.push(source.fault_at(at, "a static that changes; pass the value instead"));
            }
        }
        faults.extend(words(code, "thread_local").map(|at| source.fault_at(at, "state of a thread; pass it instead")));
    }
    faults
}

/// `[lints] workspace = true` in every crate: documented items, no unwrap, no printing.
pub fn lints_taken(sources: &[Source]) -> Vec<Fault> {
    let crates = |s: &&Source| s.path == "xtask/Cargo.toml" || s.path.starts_with("crates/");
    let manifests = sources.iter().filter(crates).filter(|s| s.path.ends_with("/Cargo.toml"));
    let fuzz = |s: &&Source| s.path.contains("/fuzz/");
    let taken = |s: &&Source| s.text.contains("[lints]\nworkspace = true");
    manifests.filter(|s| !fuzz(s) && !taken(s)).map(|s| s.fault(0, "add `[lints]` with `workspace = true`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn faults(rule: fn(&[Source]) -> Vec<Fault>, path: &str, text: &str) -> Vec<usize> {
        rule(&[Source::new(path, text)]).into_iter().map(|f| f.line).collect()
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let bad = "[dependencies]\npentimento-core.workspace = true\npentimento-nn.workspace = true\n";
        assert_eq!(faults(arrows, "crates/diffusion/Cargo.toml", bad), [3]);
        let renamed = "[dev-dependencies]\nnets = { package = \"pentimento-nn\", path = \"x\" }\n";
        assert_eq!(faults(arrows, "crates/measure/Cargo.toml", renamed), [2]);
        assert_eq!(faults(arrows, "crates/train/Cargo.toml", bad), NONE);
        assert_eq!(faults(arrows, "crates/stray/Cargo.toml", ""), [0]);
        assert_eq!(faults(arrows, "crates/io/Cargo.toml", "[dependencies]\ntch.workspace = true\n"), [2]);
        assert_eq!(faults(arrows, "xtask/Cargo.toml", "[dependencies]\npentimento-core.workspace = true\n"), [2]);
    }

    #[test]
    fn a_network_in_a_blind_crate_is_found() {
        assert_eq!(faults(no_networks, "crates/diffusion/src/a.rs", "// DiT\nuse pentimento_nn::DiT;\n").len(), 2);
        assert_eq!(faults(no_networks, "crates/nn/src/a.rs", "use pentimento_nn::DiT;\n"), NONE);
    }

    #[test]
    fn a_file_opened_outside_io_is_found() {
        let open = "//! File::open\nfn f() { std::fs::File::open(p); }\n";
        assert_eq!(faults(only_io_touches_bytes, "crates/nn/src/a.rs", open), [2]);
        let of_io = "use pentimento_io::safetensors::File;\nfn f() { File::open(p); }\n";
        assert_eq!(faults(only_io_touches_bytes, "crates/train/src/a.rs", of_io), NONE);
        assert_eq!(faults(only_io_touches_bytes, "crates/io/src/a.rs", open), NONE);
        let folder = "use std::fs;\nfn f() { fs::create_dir_all(p); fs::read_dir(p); }\n";
        assert_eq!(faults(only_io_touches_bytes, "crates/train/src/run.rs", folder), NONE);
        assert_eq!(faults(only_io_touches_bytes, "crates/data/src/run.rs", folder), [2, 2]);
        assert_eq!(faults(only_io_touches_bytes, "crates/train/src/run.rs", "use std::fs::{self, File};\n"), [1]);
        assert_eq!(
            faults(only_io_touches_bytes, "crates/train/src/run.rs", "fn f() { fs::read_to_string(p); }\n"),
            [1]
        );
        let tests = "#[cfg(test)]\nmod tests { fn f() { std::fs::write(p, b); } }\n";
        assert_eq!(faults(only_io_touches_bytes, "crates/nn/src/a.rs", tests), NONE);
    }

    #[test]
    fn a_draw_outside_core_is_found() {
        let draws = "fn f() { Tensor::randn([2], o); x.f_bernoulli_(); tch::manual_seed(1); x.dropout(0.1, true); }\n";
        assert_eq!(faults(only_core_draws, "crates/nn/src/a.rs", draws), [1, 1, 1, 1]);
        assert_eq!(faults(only_core_draws, "crates/core/src/noise.rs", draws), NONE);
        let ours = "fn f() { noise.normal(&shape); noise.uniform(3); self.dropout.forward(x); randn(3); }\n";
        assert_eq!(faults(only_core_draws, "crates/nn/src/a.rs", ours), NONE);
    }

    #[test]
    fn changing_statics_are_found() {
        let text = "static SEED: AtomicU64 = AtomicU64::new(0);\nstatic TABLE: [f64; 2] = [0.0, 1.0];\nfn f(x: &'static str) {}\n";
        assert_eq!(faults(no_global_state, "crates/core/src/a.rs", text), [1]);
        assert_eq!(faults(no_global_state, "crates/core/src/a.rs", "thread_local! { static A: u8 = 1; }\n"), [1]);
        assert_eq!(faults(no_global_state, "crates/cli/src/main.rs", text), NONE);
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        assert_eq!(faults(lints_taken, "crates/x/Cargo.toml", "[package]\n"), [0]);
        assert_eq!(faults(lints_taken, "crates/x/Cargo.toml", "[lints]\nworkspace = true\n"), NONE);
    }
}

//! Compiles the C++ against the libtorch that torch-sys links, and the kernels once per instruction set.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=src/shim.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=RUSTC_WORKSPACE_WRAPPER");
    // Under clippy, which builds apart and links nothing, a minute of C++ would be for nobody.
    if std::env::var("RUSTC_WORKSPACE_WRAPPER").is_ok_and(|wrapper| wrapper.contains("clippy-driver")) {
        return;
    }
    let libtorch = PathBuf::from(std::env::var("LIBTORCH").unwrap_or_else(|_| "target/libtorch".into()));
    assert!(
        libtorch.join("include/torch/csrc/api/include").is_dir(),
        "no libtorch headers under {}; run `cargo xtask setup`, which fetches libtorch and links it there",
        libtorch.display()
    );
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    let wide = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"];
    let pairs = [&wide[..], &["-mavx512bf16"]].concat();
    kernels("plain", 4, &[]);
    if x86 {
        kernels("avx2", 8, &["-mavx2", "-mfma"]);
        kernels("avx512", 16, &wide);
    }
    compile("bf16_kernels.cpp", "bf16", if x86 { &pairs } else { &[] }, &[]);
    let mut shim = cc::Build::new();
    shim.cpp(true)
        .std("c++17")
        .warnings(false)
        .include(libtorch.join("include"))
        .include(libtorch.join("include/torch/csrc/api/include"))
        .file("src/shim.cpp")
        .file("src/fused.cpp")
        .file("src/products.cpp")
        .file("src/conv3.cpp")
        .flag("-fopenmp")
        .debug(false)
        // Names and lines for profiles; what debuggers want besides, of all of libtorch's headers, is most of the time.
        .flag("-g1")
        .opt_level(2);
    if x86 {
        shim.define("PSHIM_X86", None);
    }
    shim.compile("pentimento_torch_shim");
    for file in [
        "guard.h",
        "turns.h",
        "kernels.h",
        "kernels.cpp",
        "bf16_kernels.cpp",
        "conv3_kernels.h",
        "layers.h",
        "fused.cpp",
        "products.cpp",
        "conv3.cpp",
    ] {
        println!("cargo:rerun-if-changed=src/{file}");
    }
    // libtorch's own OpenMP, on whose threads the fused layers run.
    println!("cargo:rustc-link-lib=gomp");
}

/// Compiles the kernels for one instruction set.
fn kernels(name: &str, lanes: u32, flags: &[&str]) {
    let table = format!("kernels_{name}");
    compile("kernels.cpp", name, flags, &[("PSHIM_KERNELS", &table), ("PSHIM_LANES", &lanes.to_string())]);
}

fn compile(file: &str, name: &str, flags: &[&str], constants: &[(&str, &str)]) {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).file(format!("src/{file}")).opt_level(3);
    for flag in ["-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"].iter().chain(flags) {
        build.flag(flag);
    }
    for (constant, value) in constants {
        build.define(constant, *value);
    }
    build.compile(&format!("pentimento_kernels_{name}"));
}

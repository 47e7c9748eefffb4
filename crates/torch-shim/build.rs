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
    kernels("plain", 4, &[]);
    if x86 {
        kernels("avx2", 8, &["-mavx2", "-mfma"]);
        let wide = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"];
        kernels("avx512", 16, &wide);
    }
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
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).file("src/kernels.cpp").opt_level(3);
    for flag in ["-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"].iter().chain(flags) {
        build.flag(flag);
    }
    build.define("PSHIM_KERNELS", format!("kernels_{name}").as_str()).define("PSHIM_LANES", lanes.to_string().as_str());
    build.compile(&format!("pentimento_kernels_{name}"));
}

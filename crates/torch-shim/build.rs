//! Compiles `shim.cpp` against the libtorch that torch-sys links.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=src/shim.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = PathBuf::from(std::env::var("LIBTORCH").unwrap_or_else(|_| "target/libtorch".into()));
    assert!(
        libtorch.join("include/torch/csrc/api/include").is_dir(),
        "no libtorch headers under {}; run `cargo xtask setup`, which fetches libtorch and links it there",
        libtorch.display()
    );
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(libtorch.join("include"))
        .include(libtorch.join("include/torch/csrc/api/include"))
        .file("src/shim.cpp")
        .opt_level(2)
        .compile("pentimento_torch_shim");
}

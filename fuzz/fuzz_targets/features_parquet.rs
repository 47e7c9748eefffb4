#![no_main]

/// Panics of the Parquet decoder are caught by its reader; libFuzzer's hook would stop at them before that.
fn let_the_decoder_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|at| at.file().contains("/registry/src/")) {
            usual(info);
        }
    }));
}

libfuzzer_sys::fuzz_target!(init: let_the_decoder_panic(), |bytes: &[u8]| pentimento_io::fuzz::run("features_parquet", bytes));

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pentimento_io::fuzz::run("features_parquet", bytes));

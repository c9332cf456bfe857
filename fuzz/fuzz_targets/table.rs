#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::table::table(input));

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vellum_fuzz::damaged_file::damaged_file(input));

//! The parser `cells_with_tags`; its promises are in `weir_testkit::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weir_testkit::fuzz::cells_with_tags(bytes));

//! The parser `client_answer`; its promises are in `weir_testkit::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weir_testkit::fuzz::client_answer(bytes));

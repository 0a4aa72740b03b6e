//! The header of parts, from its source file: the crate around it would bring librdkafka.
#![no_main]

#[expect(dead_code, reason = "of this file only the header is a parser")]
#[path = "../../crates/kafka/src/parts.rs"]
mod parts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    weir_testkit::fuzz::settles(bytes, |bytes| {
        parts::Part::parse(bytes).map(|part| part.header().into_bytes())
    });
});

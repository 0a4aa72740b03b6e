//! What fuzzing has found worth keeping of the header of parts.

use std::path::Path;
use weir_kafka::parts::Part;
use weir_testkit::fuzz::{replay, settles};

/// The body of the fuzz target `part`: see `fuzz/fuzz_targets/part.rs`.
fn part(bytes: &[u8]) {
    settles(bytes, |bytes| Part::parse(bytes).map(|part| part.header().into_bytes()));
}

#[test]
fn every_file_of_the_corpus_is_taken_as_promised() {
    replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"), ("part", part));
}

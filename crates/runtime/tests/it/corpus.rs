//! What fuzzing has found worth keeping, replayed: each file of `corpus/TARGET` through the body of its target.

use std::path::Path;
use weir_testkit::fuzz::{RUNTIME_TARGETS, replay};

#[test]
fn every_file_of_every_corpus_is_taken_as_promised() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let count: usize = RUNTIME_TARGETS.into_iter().map(|target| replay(&corpus, target)).sum();
    println!("{count} files");
}

#[test]
fn no_corpus_is_without_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for folder in std::fs::read_dir(corpus).unwrap() {
        let name = folder.unwrap().file_name();
        assert!(RUNTIME_TARGETS.iter().any(|(target, _)| name == **target), "{name:?}");
    }
}

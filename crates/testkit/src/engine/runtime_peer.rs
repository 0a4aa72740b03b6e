//! The keyed runtime's peers on the JVM, as child processes of `cargo x bench runtime`: Confluent's Parallel Consumer,
//! and a plain loop over Kafka's own consumer.

use super::kafka;
use super::maven::{Dependency, class_path, compile};

/// The version of Parallel Consumer; it brings Kafka's client 3.9.1.
pub const PARALLEL_CONSUMER_VERSION: &str = "0.5.3.3";

/// Its class path: name and dependencies.
pub const JARS: (&str, &[Dependency]) = (
    "parallel-consumer-0.5.3.3",
    &[
        Dependency {
            coordinates: "io.confluent.parallelconsumer:parallel-consumer-core:0.5.3.3",
            without: &[],
        },
        Dependency { coordinates: "org.slf4j:slf4j-simple:2.0.13", without: &[] },
    ],
);

/// Heap of a peer, MiB: first and last size, so that its growth is not measured.
pub const HEAP_MIB: u32 = 1024;

/// Words that start a peer with `java`. The plain loop runs on the client of the broker's version.
///
/// # Panics
/// When the jars cannot be resolved, or the source does not compile.
#[must_use]
pub fn words(system: &str) -> Vec<String> {
    let jars = class_path(JARS.0, JARS.1);
    let source = include_str!("../../java/RuntimePeer.java");
    let classes = compile("runtime-peer", "RuntimePeer.java", source, &jars);
    let jars = if system == "java-consumer" { kafka::jars() } else { jars };
    // A server's options: both compilers, unlike the fixtures, whose start is what counts.
    let options = [
        format!("-Xms{HEAP_MIB}m"),
        format!("-Xmx{HEAP_MIB}m"),
        "-XX:+UseG1GC".to_owned(),
        "-Djava.net.preferIPv4Stack=true".to_owned(),
        // Parallel Consumer logs its own end as errors.
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=off".to_owned(),
        "-cp".to_owned(),
        format!("{}:{jars}", classes.display()),
        "RuntimePeer".to_owned(),
        system.to_owned(),
    ];
    options.into()
}

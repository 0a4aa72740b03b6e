//! What the log port promises, on the embedded log and on real Kafka.

mod embedded;

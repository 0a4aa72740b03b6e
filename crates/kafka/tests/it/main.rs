//! What the log port promises, on the embedded log and on real Kafka.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails")]

mod consumer;
mod embedded;
mod topics;

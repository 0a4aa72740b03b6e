//! What the log port promises, on the embedded log and on real Kafka.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails")]

mod aside;
mod batch;
mod consumer;
mod corpus;
mod embedded;
mod real;
mod reports;
mod runtime;
mod topics;

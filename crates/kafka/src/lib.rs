//! The log port on Apache Kafka, over librdkafka.
//!
//! [`producer`] writes batches durably and in order, [`parts`] cuts what is too large and puts it together again,
//! [`source`] consumes in a group for the runtime, [`reader`] reads topics, [`meter`] has the producer's metrics, [`lag`] says how far a group is behind,
//! [`topics`] looks at topics and creates them, [`aside`] deals with dead letters, [`embedded`] is a log inside the
//! process.

pub mod aside;
pub mod embedded;
mod ffi;
mod known_topics;
pub mod lag;
mod meaning;
pub mod meter;
pub mod partition;
pub mod parts;
pub mod producer;
pub mod reader;
mod reasons;
pub mod source;
pub mod topics;

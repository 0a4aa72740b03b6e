//! What users of Kafka consumers and producers report in public, tried here: one file a subject.

mod letters;
mod peers;
mod positions;
mod stalls;
mod times;

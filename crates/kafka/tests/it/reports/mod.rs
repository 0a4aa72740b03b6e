//! What users of Kafka consumers report in public, tried here.

mod stalls;

//! What users of HBase replication and of Kafka have reported in public, as sentences that should be true.

mod doctor;
mod events;
mod peers;
mod raw;
mod topics;

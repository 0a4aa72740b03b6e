//! What users of consumers have reported, one file a subject.

mod concurrency;
mod peers;
mod positions;

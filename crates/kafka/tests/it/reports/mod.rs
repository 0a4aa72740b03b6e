//! What users of consumers and producers have reported, one file a subject.

mod times;

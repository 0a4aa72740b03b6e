//! Words, values, limits and faults of Weir.
//!
//! Floor 0: nothing here blocks, opens, reads a clock or draws a random number. Everything else uses it.

pub mod address;
pub mod fault;
pub mod limits;
pub mod names;
pub mod topic;

pub use fault::{Advice, Fault, FaultKind};
pub use names::{ClusterId, TableName};
pub use topic::{TopicName, TopicNaming};

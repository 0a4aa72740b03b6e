//! Ports and the machinery around them; knows no engine by name.
//!
//! [`log`] is the port that takes records, [`budget`] bounds the bytes in flight, [`drain`] stops a process in order.

pub mod budget;
pub mod drain;
pub mod log;
pub mod offset_map;
pub mod window;

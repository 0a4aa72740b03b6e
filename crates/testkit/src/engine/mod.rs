//! Real engines as separate processes on free ports and in temporary folders.

pub mod hbase;
pub mod kafka;
pub mod kafka_secured;
pub mod kafka_tool;
pub mod maven;
pub mod process;

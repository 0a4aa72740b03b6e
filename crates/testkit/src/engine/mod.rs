//! Real engines as separate processes on free ports and in temporary folders.

pub mod hbase;
pub mod kafka;
pub mod maven;
pub mod process;

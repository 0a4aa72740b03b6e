//! Real engines as separate processes on free ports and in temporary folders.

pub mod hbase;
pub mod hbase_cluster;
pub mod hdfs;
pub mod kafka;
pub mod kafka_cluster;
pub mod kafka_secured;
pub mod kafka_tool;
pub(crate) mod kept;
pub mod maven;
pub mod node;
pub mod process;
pub mod runtime_peer;
mod site;
pub mod sums;
pub mod zookeeper;

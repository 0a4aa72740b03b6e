//! HBase over its own wire protocol, without a JVM.
//!
//! [`replication`] poses as the region servers of a peer cluster, [`registration`] as its ZooKeeper side.

pub mod registration;
pub mod replication;

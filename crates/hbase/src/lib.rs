//! HBase over its own wire protocol, without a JVM.
//!
//! [`client`] reads and writes tables, over [`rpc`]. [`replication`] poses as the region servers of a peer cluster,
//! [`registration`] as its ZooKeeper side, [`peers`] reads what a source cluster knows of its peers, [`master`] asks and
//! changes it, [`clock`] compares times, [`zookeeper`] opens the sessions and says what their errors mean.

pub mod client;
pub mod clock;
pub mod master;
pub mod peers;
pub mod registration;
pub mod replication;
pub mod rpc;
pub mod zookeeper;

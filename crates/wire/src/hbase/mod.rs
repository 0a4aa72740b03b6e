//! The RPC of HBase 0.96 and later, as replication sinks, clients and administrators meet it.

pub mod bulk_load;
pub mod call;
pub mod cell_block;
pub mod client;
pub mod cluster_key;
pub mod load;
pub mod markers;
pub mod master;
pub mod peer_config;
pub mod preamble;
pub mod replication;
pub mod schema;
pub mod service;
pub mod wal_name;
pub mod zk;

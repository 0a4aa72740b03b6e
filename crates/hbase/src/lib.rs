//! HBase over its own wire protocol: replication server (fake peer cluster), ZooKeeper registration, peer administration.

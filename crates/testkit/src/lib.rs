//! Real engines for tests: Kafka, HBase, ZooKeeper and HDFS from package registries, as separate processes.

//! Weir: HBase tables as ordered change streams on Apache Kafka.

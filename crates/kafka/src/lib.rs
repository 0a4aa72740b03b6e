//! The log port on Apache Kafka: grouped production, parts, topics, tailing, and the embedded log.

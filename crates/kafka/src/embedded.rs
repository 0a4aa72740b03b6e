//! A log inside the process: librdkafka's mock cluster, which speaks the real protocol on loopback.
//!
//! In memory only, and it keeps at most 5 MiB and 100,000 batches a partition: for the demonstration and for tests,
//! not for keeping anything.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use weir_model::{Fault, FaultKind, TopicName};

/// Bytes that one partition keeps before it forgets the oldest.
pub const PARTITION_BYTES_KEPT: usize = 5 * 1024 * 1024;

/// A running embedded log; ends when dropped.
pub struct EmbeddedLog {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl EmbeddedLog {
    /// Starts one with so many brokers.
    ///
    /// # Errors
    /// When it cannot listen on loopback.
    pub fn start(broker_count: i32) -> Result<Self, Fault> {
        let cluster = MockCluster::new(broker_count).map_err(|error| {
            Fault::new(FaultKind::Transient, "W-LISTEN", "start the embedded log", "127.0.0.1")
                .caused_by(error)
        })?;
        Ok(Self { cluster })
    }

    /// Addresses of its brokers.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create_topic(
        &self,
        topic: &TopicName,
        partition_count: i32,
        replica_count: i32,
    ) -> Result<(), Fault> {
        self.cluster.create_topic(topic.as_str(), partition_count, replica_count).map_err(|error| {
            Fault::new(
                FaultKind::Config,
                "W-KAFKA-TOPIC",
                "create a topic of the embedded log",
                topic.as_str(),
            )
            .caused_by(error)
        })
    }

    /// The mock cluster, to inject errors in tests.
    #[must_use]
    pub const fn cluster(&self) -> &MockCluster<'static, DefaultProducerContext> {
        &self.cluster
    }
}

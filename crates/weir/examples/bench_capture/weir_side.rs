//! The child that is Weir: the server, routing and producer of `weir run` with its defaults, without ZooKeeper.

use crate::measure::Variant;
use crate::shape::SOURCE;
use crate::stages::{Clocks, TimedHandler, TimedLog, parse_us};
use std::io::BufRead as _;
use std::sync::Arc;
use tokio::net::TcpListener;
use weir::capture::{Parts, handler};
use weir::meter::Meter;
use weir_apps::capture::Settings;
use weir_hbase::replication::{Server, ServerConfig};
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_model::{TopicNaming, limits};
use weir_runtime::budget::Budget;

/// The producer's settings.
pub(crate) fn producer_config(bootstrap: &str, variant: Variant) -> ProducerConfig {
    let defaults =
        ProducerConfig { part_bytes_max: Some(limits::PART_BYTES_DEFAULT), ..ProducerConfig::new(bootstrap) };
    match variant {
        Variant::Default => defaults,
        Variant::Plain | Variant::Bare => ProducerConfig { compression: "none".to_owned(), ..defaults },
    }
}

/// The routing's settings: everything, topic = table.
pub(crate) fn settings(variant: Variant) -> Settings {
    Settings { headers: variant != Variant::Bare, ..Settings::everything(TopicNaming::new("", "").unwrap()) }
}

/// Prints its port, then answers `stages` and `parse SHAPE` until its input ends.
pub(crate) fn run(words: &[&str]) {
    let (bootstrap, variant) = (words[0], Variant::of(words[1]));
    // As `weir run` has it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let clocks = Arc::new(Clocks::default());
    let server = runtime.block_on(async {
        let producer = Producer::start(producer_config(bootstrap, variant)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let parts = Parts {
            name: "bench".to_owned(),
            source: SOURCE,
            peer_id: SOURCE,
            settings: settings(variant),
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            answer_margin_percent: 25,
            creator: None,
        };
        let log = TimedLog { log: producer, clocks: Arc::clone(&clocks) };
        let (handler, _board) = handler(&parts, Arc::new(log), Meter::default());
        let timed = TimedHandler { handler, clocks: Arc::clone(&clocks) };
        let budget = Budget::new(limits::IN_FLIGHT_BYTES_DEFAULT);
        Server::start(listener, ServerConfig::new(SOURCE), Arc::new(timed), budget).unwrap()
    });
    println!("{}", server.local_address().port());
    for line in std::io::stdin().lock().lines() {
        match line.unwrap().split_once(' ') {
            Some(("parse", shape)) => println!("{}", parse_us(shape.parse().unwrap())),
            _ => println!("{}", clocks.line()),
        }
    }
}

//! A member as a process of its own, and what the group has committed.

use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::Offset;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_runtime::offset_map;
use weir_testkit::engine::kafka::Kafka;

/// What a member told: `begin` or `done`, key, partition, offset.
pub(super) type Told = (String, String, i32, i64);

pub(super) struct Member {
    child: Child,
    told: Arc<Mutex<Vec<Told>>>,
    reader: Option<std::thread::JoinHandle<Option<(u64, u64)>>>,
}

impl Member {
    pub(super) fn start(kafka: &Kafka, group: &str, topic: &str, hang: Option<&str>) -> Self {
        let tests = std::env::current_exe().unwrap();
        let program = tests.parent().unwrap().parent().unwrap().join("examples/member");
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args([&kafka.bootstrap(), group, topic])
            .args(hang)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn({
            let told = Arc::clone(&told);
            move || {
                let mut end = None;
                for line in lines.map_while(Result::ok) {
                    let words: Vec<&str> = line.split(' ').collect();
                    match words.as_slice() {
                        ["end", received, spared] => {
                            end = Some((received.parse().unwrap(), spared.parse().unwrap()));
                        }
                        [what, key, partition, offset] => {
                            let (partition, offset) = (partition.parse().unwrap(), offset.parse().unwrap());
                            told.lock().unwrap().push((
                                (*what).to_owned(),
                                (*key).to_owned(),
                                partition,
                                offset,
                            ));
                        }
                        // A line that the kill cut in two.
                        _ => {}
                    }
                }
                end
            }
        });
        Self { child, told, reader: Some(reader) }
    }

    pub(super) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    pub(super) fn count(&self, what: &str) -> usize {
        self.told.lock().unwrap().iter().filter(|told| told.0 == what).count()
    }

    /// STOP or CONT.
    pub(super) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// kill -9; everything that it told.
    pub(super) fn kill9(mut self) -> Vec<Told> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        self.told()
    }

    /// Ends it in order: what it told, and how many records it received and was spared.
    pub(super) fn stop(mut self) -> (Vec<Told>, u64, u64) {
        drop(self.child.stdin.take());
        let end = self.reader.take().unwrap().join().unwrap();
        assert!(self.child.wait().unwrap().success());
        let (received, spared) = end.expect("a member that ends in order says so");
        (self.told(), received, spared)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The group's commit of a partition: the offset, and what is done past it.
pub(crate) fn committed(
    kafka: &Kafka,
    group: &str,
    topic: &str,
    partition: i32,
) -> Option<(i64, Vec<Range<i64>>)> {
    committed_at(&kafka.bootstrap(), group, topic, partition)
}

/// Records of a topic that starts at offset 0 that the group's commits call done: those before each commit, and those
/// that its metadata names.
pub(crate) fn committed_count(bootstrap: &str, group: &str, topic: &str, partition_count: i32) -> i64 {
    let commits =
        (0..partition_count).filter_map(|partition| committed_at(bootstrap, group, topic, partition));
    commits
        .map(|(offset, beyond)| offset + beyond.iter().map(|range| range.end - range.start).sum::<i64>())
        .sum()
}

pub(super) fn committed_at(
    bootstrap: &str,
    group: &str,
    topic: &str,
    partition: i32,
) -> Option<(i64, Vec<Range<i64>>)> {
    let asker: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let list = asker.committed_offsets(list, Duration::from_secs(20)).ok()?;
    let element = list.find_partition(topic, partition)?;
    let Offset::Offset(offset) = element.offset() else { return None };
    Some((offset, offset_map::decode(offset, element.metadata()).unwrap()))
}

//! Kafka's own Java client, run for one question at a time: where its partitioner puts keys, what it reads; and for
//! rights, which librdkafka's Rust wrapper cannot give.

use super::kafka;
use super::maven::compile;
use super::process::java;
use std::process::Command;

/// One record as the Java consumer saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JavaRecord {
    /// Partition.
    pub partition: i32,
    /// Record timestamp, ms since 1970.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Writes these keys with a plain `KafkaProducer` and its default partitioner; the partitions that they went to.
///
/// # Panics
/// When it does not compile, or Kafka refuses.
#[must_use]
pub fn partitions(bootstrap: &str, topic: &str, keys: &[Vec<u8>]) -> Vec<i32> {
    let keys: Vec<String> = keys.iter().map(|key| hex(key)).collect();
    let mut words = vec!["partitions", bootstrap, topic];
    words.extend(keys.iter().map(String::as_str));
    run(&words).lines().map(|line| line.parse().expect("a partition is a number")).collect()
}

/// All records of a topic, read by a plain `KafkaConsumer`.
///
/// # Panics
/// When it does not compile, or Kafka refuses.
#[must_use]
pub fn read(bootstrap: &str, topic: &str) -> Vec<JavaRecord> {
    run(&["read", bootstrap, topic]).lines().map(record).collect()
}

/// Allows a user an operation (`READ`, `WRITE`, `DESCRIBE`) on a resource (`TOPIC` or `GROUP`, and its name).
///
/// # Panics
/// When it does not compile, or Kafka refuses.
pub fn allow(bootstrap: &str, user: &str, kind: &str, name: &str, operation: &str) {
    run(&["allow", bootstrap, user, kind, name, operation]);
}

/// Runs a line such as `kafka-topics.sh --create ...`, as Kafka's own scripts do; what it says when it fails.
///
/// # Errors
/// When the command ends with another code than 0.
///
/// # Panics
/// When the script is none of those known here.
pub fn script(line: &str) -> Result<String, String> {
    let (name, words) = line.split_once(' ').expect("a script has arguments");
    let main = match name {
        "kafka-topics.sh" => "org.apache.kafka.tools.TopicCommand",
        "kafka-configs.sh" => "kafka.admin.ConfigCommand",
        "kafka-acls.sh" => "org.apache.kafka.tools.AclCommand",
        other => panic!("{other} is not known here"),
    };
    let mut all = vec![main];
    all.extend(words.split(' ').filter(|word| !word.is_empty()));
    let output =
        Command::new("java").args(java(256, &kafka::jars(), &all)).output().expect("java is installed");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(said) } else { Err(said) }
}

fn record(line: &str) -> JavaRecord {
    let mut words = line.split(' ');
    let mut next = || words.next().expect("four words before the headers");
    let partition = next().parse().expect("a partition is a number");
    let timestamp_ms = next().parse().expect("a timestamp is a number");
    let (key, value) = (unhex(next()), unhex(next()));
    let headers = words
        .map(|word| word.split_once('=').expect("name=value"))
        .map(|(name, value)| (name.to_owned(), unhex(value)))
        .collect();
    JavaRecord { partition, timestamp_ms, key, value, headers }
}

fn run(words: &[&str]) -> String {
    let jars = kafka::jars();
    let classes = compile("kafka-tool", "KafkaTool.java", include_str!("../../java/KafkaTool.java"), &jars);
    let mut main = vec!["KafkaTool"];
    main.extend(words);
    let output = Command::new("java")
        .args(java(256, &format!("{}:{jars}", classes.display()), &main))
        .output()
        .expect("java is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the tool answers in text")
}

/// Hexadecimal with a mark in front, so that no bytes are a word too.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::from("x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix('x').expect("bytes start with x").as_bytes();
    let digit = |byte: &u8| (*byte as char).to_digit(16).expect("a hexadecimal digit") as u8;
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, half| byte << 4 | digit(half))).collect()
}

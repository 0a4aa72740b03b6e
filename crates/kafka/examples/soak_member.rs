//! A member of a group for the soak: keeps a byte for each record that it has done, and says what is wrong.
//!
//! `soak_member BOOTSTRAP GROUP TOPIC FOLDER [SIDE_TOPIC...]`: `FOLDER/PARTITION` has a 1 at each offset of `TOPIC` that
//! was done by any member, so that a kill takes nothing with it. The values of the other topics are numbers: `FOLDER/side`
//! has a 1 at each of them. It tells `wrong ...` on its standard output, and at its end, when its standard
//! input ends, `end RECEIVED SPARED REPEATED HELD`: HELD is bytes of the budget that nobody has given back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_runtime::budget::Budget;
use weir_runtime::consumer::Consumer;
use weir_runtime::record::Record;

/// Bytes of records, fetched ahead and in flight; the soak's bound of memory is made of them.
const BUDGET_BYTES: usize = 64 << 20;

/// One record in so many takes a millisecond: others of its key come meanwhile.
const SLOW_EVERY: i64 = 100;

/// Partition and key.
type Lane = (i32, Vec<u8>);

struct Book {
    folder: PathBuf,
    files: Mutex<HashMap<i32, Arc<File>>>,
    beside: File,
    open: Mutex<BTreeSet<Lane>>,
    newest: Mutex<BTreeMap<Lane, i64>>,
    repeated: AtomicU64,
}

impl Book {
    fn file(&self, partition: i32) -> Arc<File> {
        let mut files = self.files.lock().expect("no panic under this lock");
        let file = files.entry(partition).or_insert_with(|| {
            let path = self.folder.join(partition.to_string());
            let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
            Arc::new(file.expect("the folder is writable"))
        });
        Arc::clone(file)
    }

    /// Notes the number of a record of another topic.
    fn beside(&self, record: &Record) {
        let number = record.text().1.parse::<u64>();
        match number {
            Ok(number) => self.beside.write_at(&[1], number).expect("the folder is writable"),
            Err(error) => {
                println!("wrong value {:?} in {}: {error}", record.text().1, &*record.topic);
                0
            }
        };
    }

    fn begin(self: &Arc<Self>, record: &Record) -> Attempt {
        let lane = (record.partition, record.key().unwrap_or_default().to_vec());
        let (file, at) = (self.file(record.partition), record.offset.unsigned_abs());
        let mut byte = [0];
        let is_again = file.read_at(&mut byte, at).is_ok_and(|count| count == 1) && byte[0] == 1;
        self.repeated.fetch_add(u64::from(is_again), Ordering::Relaxed);
        let place = format!("{} of key {:?}", record.offset, String::from_utf8_lossy(&lane.1));
        if !self.open.lock().expect("no panic under this lock").insert(lane.clone()) {
            println!("wrong two at once: {place} in partition {}", lane.0);
        }
        let newest = self.newest.lock().expect("no panic under this lock").get(&lane).copied();
        if let Some(newest) = newest.filter(|newest| *newest > record.offset && !is_again) {
            println!("wrong out of order: {place} in partition {} after {newest}", lane.0);
        }
        Attempt { book: Arc::clone(self), lane, file, at }
    }
}

struct Attempt {
    book: Arc<Book>,
    lane: Lane,
    file: Arc<File>,
    at: u64,
}

impl Attempt {
    fn done(self) {
        // Before the runtime hears of it: what is committed is in the file.
        self.file.write_at(&[1], self.at).expect("the folder is writable");
        let mut all = self.book.newest.lock().expect("no panic under this lock");
        let newest = all.entry(self.lane.clone()).or_default();
        *newest = (*newest).max(self.at.cast_signed());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.book.open.lock().expect("no panic under this lock").remove(&self.lane);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, group, topic, folder, beside @ ..] = words.as_slice() else {
        return Err("soak_member BOOTSTRAP GROUP TOPIC FOLDER [SIDE_TOPIC...]".into());
    };
    let topics: Vec<&str> = std::iter::once(topic).chain(beside).map(String::as_str).collect();
    let mut config = SourceConfig::new(bootstrap, group, &topics);
    // What was killed is missed soon.
    config.properties.insert("session.timeout.ms".to_owned(), "6000".to_owned());
    config.partitions_expected = 8;
    let beside = PathBuf::from(folder).join("side");
    let book = Arc::new(Book {
        beside: File::options().create(true).truncate(false).write(true).open(beside)?,
        folder: folder.into(),
        files: Mutex::default(),
        open: Mutex::default(),
        newest: Mutex::default(),
        repeated: AtomicU64::new(0),
    });
    let budget = Budget::new(BUDGET_BYTES);
    let running = Consumer::new(KafkaSource::new(config))
        .budget(budget.clone())
        .start({
            let (book, topic) = (Arc::clone(&book), topic.clone());
            move |record: Record| {
                let attempt = if *record.topic == *topic { Some(book.begin(&record)) } else { None };
                if attempt.is_none() {
                    book.beside(&record);
                }
                async move {
                    let Some(attempt) = attempt else { return };
                    if record.offset % SLOW_EVERY == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    attempt.done();
                }
            }
        })
        .await?;
    tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await??;
    let counts = running.stop(Duration::from_secs(5)).await?;
    let held = budget.used_bytes() + BUDGET_BYTES - budget.bytes_max();
    println!("end {} {} {} {held}", counts.received, counts.spared, book.repeated.load(Ordering::Relaxed));
    Ok(())
}

//! The runtime at full rate with random faults: less than a minute on every run, ten minutes in `cargo x soak runtime`.

mod side;

/// On a real broker.
mod real {
    use super::side::{self, Side};
    use crate::consumer::create;
    use rdkafka::TopicPartitionList;
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::topic_partition_list::Offset;
    use std::io::{BufRead as _, BufReader};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};
    use weir_kafka::producer::{Producer, ProducerConfig};
    use weir_model::TopicName;
    use weir_runtime::log::{LogWriter as _, RecordBatch, RecordSpan};
    use weir_sim_kernel::Rng;
    use weir_testkit::campaign::{self, Report};
    use weir_testkit::engine::kafka::Kafka;
    use weir_testkit::scale::{is_full, pick};

    const PARTITIONS: i32 = 8;
    const KEYS: u64 = 1000;
    const VALUE_BYTES: usize = 100;

    /// Records that the producers may be ahead of the group's commits: the members always have work, and the disk is
    /// not what is tested.
    const AHEAD_MAX: i64 = 200_000;

    /// What one member may have in memory: a budget of 64 MiB (`soak_member`), and 64 MiB beside.
    const RSS_MIB_MAX: u64 = 128;

    /// How much more the member that is never killed may have in the second half than it had in the first. Of the ten
    /// minutes only: in the halves of half a minute it has more or fewer partitions, as the faults fall.
    const GROWTH_MIB_MAX: u64 = 16;

    /// How long the group may take to do all that is left.
    const CATCH_UP: Duration = Duration::from_secs(180);

    /// What a member told at its end.
    #[derive(Default)]
    struct End {
        wrong: Vec<String>,
        spared: u64,
        repeated: u64,
        held_bytes: u64,
        is_orderly: bool,
    }

    struct Member {
        child: Child,
        reader: JoinHandle<End>,
        asleep_until: Option<Instant>,
    }

    impl Member {
        fn start(kafka: &Kafka, folder: &Path) -> Self {
            let tests = std::env::current_exe().unwrap();
            let program = tests.parent().unwrap().parent().unwrap().join("examples/soak_member");
            let mut child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL"])
                .arg(program)
                .args([&kafka.bootstrap(), "g", "soak"])
                .arg(folder)
                .args([side::GROWN, side::TRANSACTED, side::REMADE])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let reader = std::thread::spawn(move || {
                let mut end = End::default();
                for line in lines.map_while(Result::ok) {
                    if line.starts_with("wrong ") {
                        end.wrong.push(line);
                    } else if let Some(counts) = line.strip_prefix("end ") {
                        let counts: Vec<u64> = counts.split(' ').map(|word| word.parse().unwrap()).collect();
                        (end.spared, end.repeated, end.held_bytes) = (counts[1], counts[2], counts[3]);
                        end.is_orderly = true;
                    }
                }
                end
            });
            Self { child, reader, asleep_until: None }
        }

        fn signal(&self, name: &str) {
            let id = self.child.id().to_string();
            assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
        }

        fn wake(&mut self) {
            if self.asleep_until.take().is_some() {
                self.signal("CONT");
            }
        }

        fn kill9(mut self) -> End {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            self.reader.join().unwrap()
        }

        fn stop(mut self) -> End {
            self.wake();
            drop(self.child.stdin.take());
            let end = self.reader.join().unwrap();
            assert!(self.child.wait().unwrap().success() && end.is_orderly, "a member did not end in order");
            assert_eq!(end.held_bytes, 0, "a member ended with bytes that nobody had given back");
            end
        }

        fn rss_mib(&self) -> u64 {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
            let status = status.unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
            kib.unwrap_or_default() / 1024
        }
    }

    /// One of a few things that go wrong.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Trouble {
        Kill,
        Sleep,
        Add,
        Remove,
        Broker,
        /// The broker stands still for longer than the members' sessions.
        BrokerSleeps,
        Grow,
        Transact,
        Remake,
    }

    const TROUBLES: [Trouble; 9] = [
        Trouble::Kill,
        Trouble::Sleep,
        Trouble::Add,
        Trouble::Remove,
        Trouble::Broker,
        Trouble::BrokerSleeps,
        Trouble::Grow,
        Trouble::Transact,
        Trouble::Remake,
    ];

    /// The members, and what those that are gone have told.
    struct Group<'a> {
        kafka: &'a mut Kafka,
        folder: &'a Path,
        side: Side,
        runtime: &'a tokio::runtime::Runtime,
        /// The first is never killed: its memory is looked at over the whole time.
        members: Vec<Member>,
        ended: Vec<End>,
        rss_mib_max: u64,
        done: [u32; TROUBLES.len()],
    }

    impl Group<'_> {
        fn add(&mut self) {
            self.members.push(Member::start(self.kafka, self.folder));
        }

        fn look(&mut self) {
            for member in &mut self.members {
                self.rss_mib_max = self.rss_mib_max.max(member.rss_mib());
                if member.asleep_until.is_some_and(|until| until <= Instant::now()) {
                    member.wake();
                }
            }
        }

        fn suffer(&mut self, trouble: Trouble, rng: &mut Rng) {
            let count = self.members.len();
            // Any but the first.
            let chosen = rng.between(1, (count as u64 - 1).max(1)) as usize;
            match trouble {
                Trouble::Kill => {
                    let killed = self.members.remove(chosen);
                    self.ended.push(killed.kill9());
                    self.add();
                }
                // Past its session, or not.
                Trouble::Sleep => {
                    let any = rng.below(count);
                    let until = Instant::now() + Duration::from_secs(rng.between(1, 9));
                    self.members[any].signal("STOP");
                    self.members[any].asleep_until = Some(until);
                }
                Trouble::Add if count < 5 => self.add(),
                Trouble::Remove if count > 2 => {
                    let removed = self.members.remove(chosen);
                    self.ended.push(removed.stop());
                }
                Trouble::Add | Trouble::Remove => return,
                Trouble::Broker => {
                    self.kafka.kill9();
                    self.kafka.restart();
                }
                Trouble::BrokerSleeps => {
                    self.kafka.pause();
                    std::thread::sleep(Duration::from_secs(rng.between(8, pick(9, 15))));
                    self.kafka.resume();
                }
                Trouble::Grow => self.runtime.block_on(self.side.grow(self.kafka)),
                Trouble::Transact => self.side.transact(self.kafka),
                Trouble::Remake => {
                    // Whoever sleeps may have a part of the topic.
                    self.members.iter_mut().for_each(Member::wake);
                    self.runtime.block_on(self.side.remake(self.kafka));
                }
            }
            let index = TROUBLES.iter().position(|one| *one == trouble).unwrap();
            self.done[index] += 1;
        }
    }

    /// What the group has committed in all; `None` while nobody answers.
    fn committed(asker: &BaseConsumer) -> Option<i64> {
        let mut list = TopicPartitionList::new();
        (0..PARTITIONS).for_each(|partition| {
            list.add_partition("soak", partition);
        });
        let list = asker.committed_offsets(list, Duration::from_secs(5)).ok()?;
        let elements = list.elements();
        let offsets = elements.iter().map(|element| match element.offset() {
            Offset::Offset(offset) => offset,
            _ => 0,
        });
        Some(offsets.sum())
    }

    fn ends(asker: &BaseConsumer) -> Vec<i64> {
        let wait = Duration::from_secs(30);
        (0..PARTITIONS).map(|partition| asker.fetch_watermarks("soak", partition, wait).unwrap().1).collect()
    }

    /// A thousand records over the keys, in the order in which they are numbered.
    fn batch(first: u64) -> RecordBatch {
        let mut batch =
            RecordBatch { topics: vec![TopicName::new("soak").unwrap()], ..RecordBatch::default() };
        batch.arena.extend_from_slice(&[b'v'; VALUE_BYTES]);
        for number in first..first + 1000 {
            let start = batch.arena.len() as u32;
            // Which key a record has looks like chance.
            let key = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % KEYS;
            batch.arena.extend_from_slice(format!("k{key}").as_bytes());
            let key = start..batch.arena.len() as u32;
            batch.records.push(RecordSpan {
                topic: 0,
                key,
                value: 0..VALUE_BYTES as u32,
                headers: 0..0,
                timestamp_ms: 1_700_000_000_000,
            });
        }
        batch
    }

    /// Writes as fast as the log takes it, never further ahead of the commits than is allowed; until told to end.
    async fn produce(bootstrap: String, seen: Arc<AtomicI64>, is_over: Arc<AtomicBool>) -> i64 {
        let producer = Producer::start(ProducerConfig::new(&bootstrap)).unwrap();
        let (mut written, mut first) = (0i64, 0);
        while !is_over.load(Ordering::Relaxed) {
            if written - seen.load(Ordering::Relaxed) > AHEAD_MAX {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            // What is refused while the broker is away may have been written all the same: the log says what there is.
            if producer.append(batch(first)).await.is_ok() {
                written += 1000;
            }
            first += 1000;
        }
        written
    }

    #[test]
    fn the_runtime_at_full_rate_with_random_faults_loses_nothing_and_stays_flat() {
        let length = Duration::from_secs(pick(45, 600));
        let mut rng = campaign::rng(5);
        let folder = tempfile::tempdir().unwrap();
        let mut kafka = Kafka::start();
        let (bootstrap, runtime) = (kafka.bootstrap(), tokio::runtime::Runtime::new().unwrap());
        runtime.block_on(create(&kafka, "soak", PARTITIONS));
        let asker: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .set("group.id", "g")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg)
            .create()
            .unwrap();
        let side = runtime.block_on(Side::start(&kafka, folder.path().to_owned()));
        let mut group = Group {
            kafka: &mut kafka,
            folder: folder.path(),
            side,
            runtime: &runtime,
            members: Vec::new(),
            ended: Vec::new(),
            rss_mib_max: 0,
            done: [0; TROUBLES.len()],
        };
        (0..3).for_each(|_| group.add());
        let (seen, is_over) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let producing = runtime.spawn(produce(bootstrap, Arc::clone(&seen), Arc::clone(&is_over)));

        let started = Instant::now();
        let (mut due, mut kinds) = (Duration::from_secs(3), TROUBLES.to_vec());
        let (mut first_half, mut second_half) = (0, 0);
        while started.elapsed() < length {
            std::thread::sleep(Duration::from_millis(100));
            if let Some(sum) = committed(&asker) {
                seen.fetch_max(sum, Ordering::Relaxed);
            }
            group.look();
            let rss_mib = group.members[0].rss_mib();
            let half = if started.elapsed() < length / 2 { &mut first_half } else { &mut second_half };
            *half = rss_mib.max(*half);
            if started.elapsed() >= due {
                // Each kind once before chance alone decides.
                let index = rng.below(kinds.len());
                let trouble = kinds.remove(index);
                if kinds.is_empty() {
                    kinds = TROUBLES.to_vec();
                }
                println!("{:6.1} s  {trouble:?}", started.elapsed().as_secs_f64());
                group.suffer(trouble, &mut rng);
                due = started.elapsed() + Duration::from_millis(rng.between(1000, pick(5000, 10_000)));
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let at_least = runtime.block_on(producing).unwrap();
        group.members.iter_mut().for_each(Member::wake);
        let (ends, catching_up) = (ends(&asker), Instant::now());
        let written: i64 = ends.iter().sum();
        while committed(&asker) != Some(written) {
            assert!(catching_up.elapsed() < CATCH_UP, "{:?} of {written} committed", committed(&asker));
            std::thread::sleep(Duration::from_millis(100));
            group.look();
        }
        let caught_up = catching_up.elapsed();
        let is_quiet =
            |group: &Group<'_>| group.side.missing() == 0 && group.side.is_at_the_end(group.kafka, &asker);
        while !is_quiet(&group) {
            assert!(
                catching_up.elapsed() < CATCH_UP,
                "{} of the topics beside are missing",
                group.side.missing()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(group.side.aborted_and_handled(), 0);
        let Group { members, mut ended, rss_mib_max, done, side, .. } = group;
        ended.extend(members.into_iter().map(Member::stop));
        let wrong: Vec<&String> = ended.iter().flat_map(|end| &end.wrong).collect();
        assert_eq!(wrong, Vec::<&String>::new());
        let mut lost = 0;
        for (partition, end) in ends.iter().enumerate() {
            let bytes = std::fs::read(folder.path().join(partition.to_string())).unwrap();
            let end = usize::try_from(*end).unwrap();
            lost += end - bytes.iter().take(end).filter(|byte| **byte == 1).count();
        }
        assert_eq!(lost, 0);
        assert!(written >= at_least && written > 0, "{written} in the log, {at_least} acknowledged");
        assert!(rss_mib_max < RSS_MIB_MAX, "{rss_mib_max} MiB");
        if is_full() {
            assert!(second_half < first_half + GROWTH_MIB_MAX, "{first_half} MiB, then {second_half} MiB");
        }
        let [killed, slept, added, removed, restarts, naps, grown, transactions, remade] = done;
        Report::new("the keyed runtime at full rate with random faults")
            .figure("duration in s", length.as_secs())
            .figure("records", written)
            .figure("records a second", written / i64::try_from(length.as_secs()).unwrap())
            .figure("members killed -9", killed)
            .figure("members put to sleep", slept)
            .figure("members added", added)
            .figure("members removed", removed)
            .figure("broker killed -9 and restarted", restarts)
            .figure("broker put to sleep for longer than a session", naps)
            .figure("partitions added", grown)
            .figure("transactions committed, and as many aborted", transactions)
            .figure("topics deleted and created again", remade)
            .figure("records beside, in those topics", side.written())
            .figure("lost", lost)
            .figure(
                "records repeated, as those told that ended in order",
                ended.iter().map(|end| end.repeated).sum::<u64>(),
            )
            .figure(
                "records spared, as those told that ended in order",
                ended.iter().map(|end| end.spared).sum::<u64>(),
            )
            .figure("lag zero after s", format!("{:.1}", caught_up.as_secs_f64()))
            .figure("RSS of a member at most in MiB", rss_mib_max)
            .figure("RSS of the lasting member in the first half at most in MiB", first_half)
            .figure("RSS of the lasting member in the second half at most in MiB", second_half)
            .publish();
    }
}

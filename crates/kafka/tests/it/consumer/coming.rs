//! Members that come and go, one every ten seconds: for two minutes in `cargo x soak runtime`, one every three seconds
//! a few times on every run.

/// On a real broker.
mod real {
    use crate::consumer::kill::committed;
    use crate::consumer::real::member;
    use crate::consumer::{create, numbered, until, write};
    use std::time::{Duration, Instant};
    use weir_kafka::source::{Protocol, SourceConfig};
    use weir_runtime::consumer::Running;
    use weir_runtime::testing::judge::Judge;
    use weir_testkit::campaign::Report;
    use weir_testkit::engine::kafka::Kafka;
    use weir_testkit::scale::pick;

    const PARTITIONS: i32 = 8;
    const RECORDS: usize = 10_000;

    /// Records of one round of members that leave.
    const ROUND: usize = 200;

    /// What a group came to.
    struct End {
        lost: usize,
        wrong: Vec<String>,
        repeated: usize,
        commits_failed: u64,
    }

    /// One after the other of: a fourth member comes, the oldest goes.
    async fn come_and_go(kafka: &Kafka, name: &str, protocol: Protocol) -> End {
        let (every, changes) = (Duration::from_secs(pick(3, 10)), pick(4, 12));
        create(kafka, name, PARTITIONS).await;
        let config = SourceConfig { protocol, ..SourceConfig::new(&kafka.bootstrap(), name, &[name]) };
        let (judge, mut members) = (Judge::default(), Vec::new());
        for _ in 0..3 {
            members.push(member(&config, &judge).await);
        }
        let records: Vec<(String, String)> = numbered(RECORDS, 100, 2).collect();
        // Two parts for each change: what comes while the group rebalances, and what comes after.
        let mut parts = records.chunks(RECORDS.div_ceil(2 * changes));
        let mut commits_failed = 0;
        for change in 0..changes {
            let began = Instant::now();
            write(kafka, name, parts.next().unwrap_or_default().to_vec()).await;
            if change % 2 == 0 {
                members.push(member(&config, &judge).await);
            } else {
                let gone = members.remove(0).stop(Duration::from_secs(5)).await.unwrap();
                assert_eq!(gone.cancelled, 0, "{name}: nothing takes longer than the drain");
                commits_failed += gone.commits_failed;
            }
            write(kafka, name, parts.next().unwrap_or_default().to_vec()).await;
            tokio::time::sleep(every.saturating_sub(began.elapsed())).await;
        }
        until(&format!("all are done with {name}"), || judge.done_count() == RECORDS).await;
        for member in members {
            commits_failed += member.stop(Duration::from_secs(5)).await.unwrap().commits_failed;
        }
        let ends = (0..PARTITIONS).filter_map(|partition| committed(kafka, name, name, partition));
        assert_eq!(ends.map(|one| one.0).sum::<i64>(), RECORDS as i64, "{name}");
        End {
            lost: RECORDS - judge.done_count(),
            wrong: judge.wrong(),
            repeated: judge.repeated_count(),
            commits_failed,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_runtimes_members_come_and_go_every_ten_seconds_and_nothing_is_lost() {
        let kafka = Kafka::start();
        let (cooperative, eager, consumer) = tokio::join!(
            come_and_go(&kafka, "cooperative", Protocol::Cooperative),
            come_and_go(&kafka, "eager", Protocol::Eager),
            come_and_go(&kafka, "consumer", Protocol::Consumer),
        );
        let all = [&cooperative, &eager, &consumer];
        let wrong: Vec<&String> = all.iter().flat_map(|end| &end.wrong).collect();
        assert_eq!(wrong, Vec::<&String>::new());
        Report::new("members of the keyed runtime that come and go")
            .figure("a change every so many s", pick(3, 10))
            .figure("changes of each group", pick(4, 12))
            .figure("records of each group", RECORDS)
            .figure("lost", all.iter().map(|end| end.lost).sum::<usize>())
            .figure("out of order, or two at once", wrong.len())
            .figure("records repeated, cooperative-sticky", cooperative.repeated)
            .figure("records repeated, eager", eager.repeated)
            .figure("records repeated, KIP-848", consumer.repeated)
            .figure("commits refused in all", all.iter().map(|end| end.commits_failed).sum::<u64>())
            .publish();
    }

    /// What a group whose members left at once came to.
    struct Left {
        uncommitted: i64,
        repeated: usize,
        wrong: Vec<String>,
        commits_failed: u64,
    }

    /// A member comes, and all go while the group still deals with that: at another moment in each round, because a
    /// classic group refuses commits for some milliseconds of a rebalance alone.
    async fn leave_at_once(kafka: &Kafka, name: &str, protocol: Protocol, rounds: usize) -> Left {
        create(kafka, name, PARTITIONS).await;
        let config = SourceConfig { protocol, ..SourceConfig::new(&kafka.bootstrap(), name, &[name]) };
        let judge = Judge::default();
        let (mut uncommitted, mut commits_failed) = (0, 0);
        for round in 1..=rounds {
            let mut members = vec![member(&config, &judge).await, member(&config, &judge).await];
            let has_some = |member: &Running| !member.health().partitions.is_empty();
            until("both have partitions", || members.iter().all(has_some)).await;
            members.push(member(&config, &judge).await);
            write(kafka, name, numbered(ROUND, 50, 0)).await;
            until("all are done", || judge.done_count() == ROUND * round).await;
            tokio::time::sleep(Duration::from_millis(37 * round as u64 % 250)).await;
            for member in members {
                commits_failed += member.stop(Duration::from_secs(5)).await.unwrap().commits_failed;
            }
            let ends = (0..PARTITIONS).filter_map(|partition| committed(kafka, name, name, partition));
            uncommitted += (ROUND * round) as i64 - ends.map(|one| one.0).sum::<i64>();
        }
        Left { uncommitted, repeated: judge.repeated_count(), wrong: judge.wrong(), commits_failed }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_runtimes_members_that_leave_in_the_middle_of_a_rebalance_have_committed_all_they_did() {
        let (kafka, rounds) = (Kafka::start(), pick(3, 40));
        let (cooperative, eager, consumer) = tokio::join!(
            leave_at_once(&kafka, "cooperative", Protocol::Cooperative, rounds),
            leave_at_once(&kafka, "eager", Protocol::Eager, rounds),
            leave_at_once(&kafka, "consumer", Protocol::Consumer, rounds),
        );
        let all = [cooperative, eager, consumer];
        let uncommitted = all.iter().map(|left| left.uncommitted).sum::<i64>();
        let repeated = all.iter().map(|left| left.repeated).sum::<usize>();
        let wrong: Vec<&String> = all.iter().flat_map(|left| &left.wrong).collect();
        assert_eq!((uncommitted, repeated, wrong), (0, 0, Vec::new()));
        Report::new("members of the keyed runtime that leave in the middle of a rebalance")
            .figure("rounds of each group", rounds)
            .figure("members that left in all", all.len() * 3 * rounds)
            .figure("records of each group", ROUND * rounds)
            .figure("records left without a commit", uncommitted)
            .figure("records repeated", repeated)
            .figure(
                "commits refused, and made again",
                all.iter().map(|left| left.commits_failed).sum::<u64>(),
            )
            .publish();
    }
}

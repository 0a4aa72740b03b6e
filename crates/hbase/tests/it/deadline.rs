//! Time-outs, on a paused clock: that of a call, which runs from its arrival also while the call waits for the budget,
//! and that of an answer which nobody reads.

use crate::client::call;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use weir_hbase::replication::{Answer, Handler, Promise, ReplicateCall, Server, ServerConfig};
use weir_model::ClusterId;
use weir_runtime::budget::Budget;
use weir_wire::hbase::call::{ConnectionHeader, parse_answer};
use weir_wire::hbase::cell_block::Codec;
use weir_wire::hbase::preamble;

/// Each promise waits for one permit.
struct Gate {
    permits: Arc<Semaphore>,
    calls: AtomicU64,
}

impl Handler for Gate {
    fn replicate(&self, _: ReplicateCall<'_>) -> Promise {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let permits = Arc::clone(&self.permits);
        Box::pin(async move {
            permits.acquire().await.unwrap().forget();
            Answer::Done
        })
    }
}

struct Source {
    calls: DuplexStream,
    answers: DuplexStream,
}

impl Source {
    async fn connect(server: &Server) -> Self {
        Self::with_room(server, 1 << 16).await
    }

    /// A source whose socket holds so many bytes of answers that it has not read.
    async fn with_room(server: &Server, answer_bytes: usize) -> Self {
        let (mut calls, served) = duplex(1 << 16);
        let (answers, written) = duplex(answer_bytes);
        server.serve(served, written, SocketAddr::from(([10, 0, 0, 1], 1)));
        let mut hello = preamble::simple().to_vec();
        let header = ConnectionHeader {
            service: "AdminService".to_owned(),
            codec: Some(Codec::KeyValueWithTags.class().to_owned()),
            ..ConnectionHeader::default()
        };
        header.encode(&mut hello);
        calls.write_all(&hello).await.unwrap();
        Self { calls, answers }
    }

    /// Whether the next answer is OK.
    async fn is_ok(&mut self) -> bool {
        let mut frame = vec![0; self.answers.read_u32().await.unwrap() as usize];
        self.answers.read_exact(&mut frame).await.unwrap();
        let answer = parse_answer(&frame).unwrap();
        assert!(answer.result.as_ref().err().is_none_or(|exception| !exception.do_not_retry));
        answer.result.is_ok()
    }
}

/// One call holds the whole budget for so long while another of a time-out of 60 s waits; after how long, counted
/// from its arrival, the other is answered, whether with OK, and how many calls the handler saw.
async fn wait_behind_a_call_of(held: Duration) -> (Duration, bool, u64) {
    let gate = Arc::new(Gate { permits: Arc::new(Semaphore::new(0)), calls: AtomicU64::new(0) });
    let handler: Arc<dyn Handler> = Arc::<Gate>::clone(&gate);
    let config = ServerConfig::new(ClusterId { most: 7, least: 8 });
    let budget = Budget::new(1);
    let server = Server::unbound(SocketAddr::from(([127, 0, 0, 1], 1)), config, handler, budget.clone());
    let (mut first, mut second) = (Source::connect(&server).await, Source::connect(&server).await);
    first.calls.write_all(&call(1, 1, 600_000)).await.unwrap();
    while server.stats().calls_open() == 0 {
        tokio::task::yield_now().await;
    }
    let sent = Instant::now();
    second.calls.write_all(&call(1, 2, 60_000)).await.unwrap();
    while budget.waiting_count() == 0 {
        tokio::task::yield_now().await;
    }
    sleep(held).await;
    gate.permits.add_permits(1);
    assert!(first.is_ok().await);
    let is_ok = second.is_ok().await;
    (sent.elapsed(), is_ok, gate.calls.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_the_budget_is_still_answered_three_quarters_into_its_time_out() {
    let (after, is_ok, calls) = wait_behind_a_call_of(Duration::from_secs(30)).await;
    assert_eq!((after.as_secs(), is_ok, calls), (45, false, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_longer_than_that_comes_again_and_is_not_written() {
    let (after, is_ok, calls) = wait_behind_a_call_of(Duration::from_secs(50)).await;
    assert_eq!((after.as_secs(), is_ok, calls), (50, false, 1));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_reads_no_answers_is_let_go_after_a_minute_and_gives_its_bytes_back() {
    let gate = Arc::new(Gate { permits: Arc::new(Semaphore::new(1000)), calls: AtomicU64::new(0) });
    let config = ServerConfig::new(ClusterId { most: 7, least: 8 });
    let budget = Budget::new(1 << 20);
    let server = Server::unbound(SocketAddr::from(([127, 0, 0, 1], 1)), config, gate, budget.clone());
    let mut deaf = Source::with_room(&server, 8).await;
    let started = Instant::now();
    let mut sent = 0;
    // Until the server closes: a call more, which it would take if it still listened.
    while deaf.calls.write_all(&call(sent + 1, u64::from(sent) + 1, 600_000)).await.is_ok() {
        sent += 1;
        sleep(Duration::from_secs(1)).await;
    }
    // It looks once a second.
    assert!((60..65).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    while server.stats().calls_open() > 0 || server.stats().snapshot().connections_open > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(budget.used_bytes(), 0);
}

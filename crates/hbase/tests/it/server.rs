//! Wrong bytes, late answers, repeated calls, a spent budget, and an orderly end.

use crate::client::{Client, DEADLINE, call};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use weir_hbase::replication::{Answer, Handler, Promise, ReplicateCall, Server, ServerConfig, Snapshot};
use weir_model::ClusterId;
use weir_runtime::budget::Budget;
use weir_wire::hbase::call::RemoteException;
use weir_wire::hbase::cell_block::Codec;

/// Notes sequence numbers as they are taken; each promise waits for one permit.
struct Gate {
    taken: Mutex<Vec<u64>>,
    permits: Arc<Semaphore>,
}

impl Handler for Gate {
    fn replicate(&self, call: ReplicateCall<'_>) -> Promise {
        self.taken.lock().unwrap().extend(call.request.entries().map(|entry| entry.key.sequence));
        let permits = Arc::clone(&self.permits);
        Box::pin(async move {
            match permits.acquire().await {
                Ok(permit) => {
                    permit.forget();
                    Answer::Done
                }
                Err(_) => Answer::Again(RemoteException::retriable("java.io.IOException", "the log is down")),
            }
        })
    }
}

struct Rig {
    server: Server,
    gate: Arc<Gate>,
    budget: Budget,
}

impl Rig {
    async fn start(permits: usize, budget_bytes: usize) -> Self {
        let gate = Arc::new(Gate { taken: Mutex::default(), permits: Arc::new(Semaphore::new(permits)) });
        let budget = Budget::new(budget_bytes);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = ServerConfig::new(ClusterId { most: 7, least: 8 });
        config.frame_bytes_max = 1 << 20;
        config.frame_wait = Duration::from_millis(500);
        let handler: Arc<dyn Handler> = Arc::<Gate>::clone(&gate);
        let server = Server::start(listener, config, handler, budget.clone()).unwrap();
        Self { server, gate, budget }
    }

    fn address(&self) -> SocketAddr {
        self.server.local_address()
    }

    fn snapshot(&self) -> Snapshot {
        self.server.stats().snapshot()
    }

    fn refused(&self, why: &str) -> u64 {
        self.snapshot().refused.iter().find(|(label, _)| *label == why).unwrap().1
    }

    /// Another source is served as if nothing had happened.
    async fn check_others_are_served(&self) {
        let mut source = Client::source(self.address()).await;
        source.send(&call(1, 99, 60_000)).await;
        assert_eq!(source.answer().await, Some((1, Ok(Vec::new()))));
    }

    async fn wait_until(&self, what: impl Fn(&Self) -> bool) {
        let wait = async {
            while !what(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap();
    }
}

#[tokio::test]
async fn wrong_first_bytes_are_answered_as_a_real_server_does() {
    let rig = Rig::start(100, 1 << 20).await;
    for (bytes, class) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "FatalConnectionException"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "FatalConnectionException"),
        (b"HBas\x01\x50", "WrongVersionException"),
        (b"HBas\x00\x63", "BadAuthException"),
        (b"HBas\x00\x51", "BadAuthException"),
    ] {
        Client::raw(rig.address(), bytes).await.expect_fatal(class).await;
    }
    assert_eq!((rig.refused("preamble"), rig.refused("tls"), rig.refused("authentication")), (2, 1, 2));
    rig.check_others_are_served().await;
}

#[tokio::test]
async fn what_the_header_asks_for_and_we_lack_is_named() {
    let rig = Rig::start(100, 1 << 20).await;
    let codec = Codec::KeyValue.class();
    for (service, codec, compressor, class) in [
        ("NoService", codec, None, "UnknownServiceException"),
        ("AdminService", "x.MessageCodec", None, "UnsupportedCellCodecException"),
        ("AdminService", codec, Some("x.LzoCodec"), "UnsupportedCompressionCodecException"),
    ] {
        Client::of_service(rig.address(), service, codec, compressor).await.expect_fatal(class).await;
    }
    rig.check_others_are_served().await;
}

#[tokio::test]
async fn a_frame_of_two_gib_random_bytes_and_lies_hurt_nobody_else() {
    let rig = Rig::start(100, 1 << 20).await;
    for wrong in
        [&0x7fff_ffffu32.to_be_bytes()[..], &0x8000_0000u32.to_be_bytes(), b"\0\0\0\x04\xff\xff\xff\xff"]
    {
        let mut client = Client::source(rig.address()).await;
        client.send(wrong).await;
        client.expect_fatal("DoNotRetryIOException").await;
    }
    // Lengths inside the call lie: the call is answered, the connection goes on.
    let mut client = Client::source(rig.address()).await;
    let mut lie = call(5, 1, 60_000);
    let cell = lie.len() - 30;
    lie[cell] = 0x7f;
    client.send(&lie).await;
    let (call_id, result) = client.answer().await.unwrap();
    let exception = result.unwrap_err();
    assert_eq!((call_id, exception.short_class(), exception.do_not_retry), (5, "IOException", false));
    client.send(&call(6, 2, 60_000)).await;
    assert_eq!(client.answer().await, Some((6, Ok(Vec::new()))));
    assert_eq!((rig.refused("frame-length"), rig.refused("malformed")), (2, 2));
    rig.check_others_are_served().await;
}

#[tokio::test]
async fn half_a_frame_is_given_up_and_its_budget_comes_back() {
    let rig = Rig::start(100, 1 << 20).await;
    let frame = call(1, 1, 60_000);
    for cut in [1, 3, 5, frame.len() / 2, frame.len() - 1] {
        let mut client = Client::source(rig.address()).await;
        client.send(&frame[..cut]).await;
        assert!(client.answer().await.is_none(), "cut at {cut}");
    }
    assert_eq!((rig.refused("stalled"), rig.budget.used_bytes()), (5, 0));
    assert!(rig.gate.taken.lock().unwrap().is_empty());
    rig.check_others_are_served().await;
}

#[tokio::test]
async fn pings_are_ignored_and_unknown_methods_are_not_retried() {
    let rig = Rig::start(100, 1 << 20).await;
    let mut client = Client::source(rig.address()).await;
    client.send(&(-1i32).to_be_bytes()).await;
    let mut frame = Vec::new();
    weir_wire::hbase::call::encode_call(&mut frame, 9, "GetRegionInfo", None, &[], &[]);
    client.send(&frame).await;
    let (call_id, result) = client.answer().await.unwrap();
    let exception = result.unwrap_err();
    assert_eq!(
        (call_id, exception.short_class(), exception.do_not_retry),
        (9, "UnsupportedOperationException", true)
    );
    assert_eq!(rig.refused("method"), 1);
}

#[tokio::test]
async fn calls_of_one_connection_are_taken_in_order_and_answered_when_durable() {
    let rig = Rig::start(0, 1 << 20).await;
    let mut client = Client::source(rig.address()).await;
    for sequence in 1..=20 {
        client.send(&call(sequence, u64::from(sequence), 60_000)).await;
    }
    rig.wait_until(|rig| rig.snapshot().calls_open == 20).await;
    assert_eq!(*rig.gate.taken.lock().unwrap(), (1..=20).collect::<Vec<u64>>());
    assert_eq!(rig.snapshot().done, 0);
    rig.gate.permits.add_permits(20);
    let mut answered = Vec::new();
    for _ in 0..20 {
        let (call_id, result) = client.answer().await.unwrap();
        result.unwrap();
        answered.push(call_id);
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=20).collect::<Vec<u32>>());
    rig.wait_until(|rig| rig.budget.used_bytes() == 0).await;
}

#[tokio::test]
async fn an_answer_comes_before_the_time_out_and_a_repeated_call_is_recognised() {
    let rig = Rig::start(0, 1 << 20).await;
    let mut client = Client::source(rig.address()).await;
    // Two seconds are left for a loaded machine; `deadline` has the same to the millisecond, on a paused clock.
    let started = std::time::Instant::now();
    client.send(&call(1, 7, 8000)).await;
    let (_, result) = client.answer().await.unwrap();
    assert!(!result.unwrap_err().do_not_retry);
    assert!((6000..8000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    // The first attempt still runs, and still holds its bytes.
    assert!(rig.budget.used_bytes() > 0);
    client.send(&call(2, 7, 60_000)).await;
    rig.wait_until(|rig| rig.snapshot().overlaps == 1).await;
    rig.gate.permits.add_permits(2);
    assert_eq!(client.answer().await, Some((2, Ok(Vec::new()))));
    rig.wait_until(|rig| rig.budget.used_bytes() == 0).await;
    let snapshot = rig.snapshot();
    assert_eq!((snapshot.late, snapshot.done, snapshot.calls_open), (1, 1, 0));
}

#[tokio::test]
async fn a_log_that_is_down_gives_a_retriable_answer() {
    let rig = Rig::start(0, 1 << 20).await;
    rig.gate.permits.close();
    let mut client = Client::source(rig.address()).await;
    client.send(&call(1, 7, 60_000)).await;
    let (_, result) = client.answer().await.unwrap();
    let exception = result.unwrap_err();
    assert_eq!((exception.text.as_str(), exception.do_not_retry), ("the log is down", false));
    assert_eq!(rig.snapshot().again, 1);
}

#[tokio::test]
async fn a_spent_budget_stops_reading_until_bytes_come_back() {
    // Room for two small calls: each takes a KiB.
    let rig = Rig::start(0, 2 * 1024).await;
    let mut clients = Vec::new();
    for sequence in 1..=4 {
        let mut client = Client::source(rig.address()).await;
        client.send(&call(sequence, u64::from(sequence), 60_000)).await;
        clients.push(client);
    }
    rig.wait_until(|rig| rig.budget.waiting_count() == 2 && rig.snapshot().calls == 2).await;
    assert_eq!(rig.budget.used_bytes(), 2048);
    rig.gate.permits.add_permits(4);
    for client in &mut clients {
        client.answer().await.unwrap().1.unwrap();
    }
}

#[tokio::test]
async fn draining_refuses_new_calls_finishes_open_ones_and_ends() {
    let rig = Rig::start(0, 1 << 20).await;
    let mut client = Client::source(rig.address()).await;
    client.send(&call(1, 1, 60_000)).await;
    rig.wait_until(|rig| rig.snapshot().calls_open == 1).await;
    let Rig { server, gate, .. } = rig;
    let stats = server.stats();
    let draining = tokio::spawn(server.drain(Duration::from_secs(5)));
    let refused = loop {
        client.send(&call(2, 2, 60_000)).await;
        if let Some((2, Err(exception))) = client.answer().await {
            break exception;
        }
        assert!(gate.taken.lock().unwrap().len() < 2, "a new call was taken");
    };
    assert!(!refused.do_not_retry);
    gate.permits.add_permits(10);
    assert_eq!(client.answer().await, Some((1, Ok(Vec::new()))));
    assert_eq!(draining.await.unwrap(), 0);
    assert!(client.answer().await.is_none());
    assert_eq!(stats.snapshot().calls_open, 0);
}

#[tokio::test]
async fn a_source_of_3_0_finds_the_cluster_by_rpc() {
    let rig = Rig::start(0, 1 << 20).await;
    let mut client = Client::of_service(rig.address(), "MasterService", Codec::KeyValue.class(), None).await;
    let mut frame = Vec::new();
    weir_wire::hbase::call::encode_call(&mut frame, 1, "GetClusterStatus", None, &[], &[]);
    client.send(&frame).await;
    let message = client.answer().await.unwrap().1.unwrap();
    let id = ClusterId { most: 7, least: 8 }.to_string();
    assert!(message.windows(36).any(|window| window == id.as_bytes()));
    let mut registry = Client::raw(rig.address(), b"Regist").await;
    assert!(registry.answer().await.unwrap().1.unwrap().ends_with(id.as_bytes()));
}

/// Whether the kernel asks after the other side of this connection, by `/proc/net/tcp`: its timer is 2.
#[cfg(target_os = "linux")]
fn is_kept_alive(server: std::net::SocketAddr, client: std::net::SocketAddr) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (server, client) = (format!(":{:04X}", server.port()), format!(":{:04X}", client.port()));
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words[..], [_, local, remote, _, _, timer, ..]
            if local.ends_with(&server) && remote.ends_with(&client) && timer.starts_with("02:"))
    })
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_asks_whether_a_silent_source_still_lives() {
    let rig = Rig::start(1, 1 << 20).await;
    let mut client = Client::source(rig.server.local_address()).await;
    client.send(&call(1, 1, 60_000)).await;
    assert!(client.answer().await.unwrap().1.is_ok());
    let client = client.socket.local_addr().unwrap();
    // Until the answer is acknowledged the kernel has another timer on the connection.
    rig.wait_until(|rig| is_kept_alive(rig.address(), client)).await;
}

//! Thousands of region servers at once.

use crate::client::{Client, DEADLINE, call};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use weir_hbase::replication::{Answer, Handler, Promise, ReplicateCall, Server, ServerConfig};
use weir_model::ClusterId;
use weir_runtime::budget::Budget;

const CONNECTIONS: u64 = 3000;

/// Counts entries, and is done at once.
#[derive(Default)]
struct Count(AtomicU64);

impl Handler for Count {
    fn replicate(&self, call: ReplicateCall<'_>) -> Promise {
        self.0.fetch_add(call.request.entry_count() as u64, Ordering::Relaxed);
        Box::pin(std::future::ready(Answer::Done))
    }
}

#[tokio::test]
async fn three_thousand_connections_are_open_at_once_and_each_is_served() {
    // Both ends are in this process: two sockets a connection.
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    assert!(
        maximum.is_none_or(|maximum| maximum > 2 * CONNECTIONS + 100),
        "this machine allows {maximum:?} open files; raise ulimit -Hn"
    );
    let count = Arc::new(Count::default());
    let handler: Arc<dyn Handler> = Arc::<Count>::clone(&count);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = ServerConfig::new(ClusterId { most: 7, least: 8 });
    let server = Server::start(listener, config, handler, Budget::new(1 << 20)).unwrap();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::source(server.local_address()).await);
    }
    let all_open = async {
        while server.stats().snapshot().connections_open < CONNECTIONS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, all_open).await.unwrap();
    // The budget holds far fewer calls than there are connections: they take turns.
    for (client, id) in clients.iter_mut().zip(1..) {
        client.send(&call(id, u64::from(id), 60_000)).await;
    }
    for (client, id) in clients.iter_mut().zip(1..) {
        assert_eq!(client.answer().await, Some((id, Ok(Vec::new()))));
    }
    assert_eq!(count.0.load(Ordering::Relaxed), CONNECTIONS);
    drop(clients);
    let all_gone = async {
        while server.stats().snapshot().connections_open > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, all_gone).await.unwrap();
}

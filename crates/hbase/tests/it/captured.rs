//! What real sources have sent (`crates/wire/golden`), sent again: all of it is taken, and the budget counts what is
//! in memory, not what was on the wire.

use crate::client::Client;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use weir_hbase::replication::{Answer, Handler, Promise, ReplicateCall, Server, ServerConfig};
use weir_model::ClusterId;
use weir_runtime::budget::Budget;

/// Says yes, and notes calls for which less was taken from the budget than their cells have bytes.
struct Scales {
    budget: Budget,
    light: AtomicU64,
}

impl Handler for Scales {
    fn replicate(&self, call: ReplicateCall<'_>) -> Promise {
        let cells = call.request.entries().flat_map(|entry| entry.cells);
        let bytes: usize = cells.map(|cell| cell.row.len() + cell.qualifier.len() + cell.value.len()).sum();
        self.light.fetch_add(u64::from(self.budget.used_bytes() < bytes), Ordering::Relaxed);
        Box::pin(std::future::ready(Answer::Done))
    }
}

#[tokio::test]
async fn what_real_sources_sent_is_taken_whole_and_weighed_unpacked() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/golden");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("source-") {
            continue;
        }
        let budget = Budget::new(1 << 20);
        let scales = Arc::new(Scales { budget: budget.clone(), light: AtomicU64::new(0) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = ServerConfig::new(ClusterId { most: 7, least: 8 });
        let handler: Arc<dyn Handler> = Arc::<Scales>::clone(&scales);
        let server = Server::start(listener, config, handler, budget).unwrap();
        let mut source = Client::raw(server.local_address(), &std::fs::read(&path).unwrap()).await;
        while server.stats().snapshot().entries < 14 {
            let (_, answer) = source.answer().await.unwrap();
            assert_eq!(answer, Ok(Vec::new()), "{}", path.display());
        }
        assert_eq!(server.stats().snapshot().entries, 14, "{}", path.display());
        assert_eq!(scales.light.load(Ordering::Relaxed), 0, "{}", path.display());
        count += 1;
    }
    assert!(count >= 9, "{count} files");
}

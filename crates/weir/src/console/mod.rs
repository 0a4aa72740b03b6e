//! Console, health and metrics: one page that shows every capture, live.
//!
//! Pages are embedded, nothing is loaded from elsewhere. The console only reads counters; it never reaches into a call.

use crate::capture::{Running, TableBoard};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures::Stream;
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use weir_model::{Fault, FaultKind};
use weir_runtime::budget::Budget;
use weir_runtime::drain::Stop;

/// One column of the chart.
const BUCKET: Duration = Duration::from_millis(100);

/// Columns of the chart: one minute.
const BUCKETS_MAX: usize = 600;

/// What the console shows.
pub struct Source {
    running: Weak<Vec<Running>>,
    budget: Budget,
    registry: Registry,
    buckets: Mutex<VecDeque<u64>>,
}

/// One picture of everything.
#[derive(Clone, Debug, Serialize)]
struct Picture {
    captures: Vec<CapturePicture>,
    in_flight_bytes: usize,
    in_flight_bytes_max: usize,
    readers_waiting: usize,
    buckets: Vec<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct CapturePicture {
    name: String,
    address: String,
    trouble: Option<String>,
    connections: u64,
    calls_open: u64,
    calls: u64,
    entries: u64,
    cells: u64,
    bytes: u64,
    done: u64,
    again: u64,
    late: u64,
    overlaps: u64,
    refused: BTreeMap<&'static str, u64>,
    sources: Vec<SourcePicture>,
    tables: BTreeMap<String, TableBoard>,
    faults: BTreeMap<&'static str, (u64, String)>,
}

#[derive(Clone, Debug, Serialize)]
struct SourcePicture {
    address: String,
    version: String,
    connections: u64,
    calls: u64,
    entries: u64,
    bytes: u64,
    last_write_ms: u64,
}

impl Source {
    /// A console over these captures. It does not keep them alive.
    #[must_use]
    pub fn new(running: Arc<Vec<Running>>, budget: Budget, registry: Registry) -> Arc<Self> {
        let running = Arc::downgrade(&running);
        Arc::new(Self { running, budget, registry, buckets: Mutex::default() })
    }

    fn captures(&self) -> Vec<CapturePicture> {
        self.running.upgrade().map(|running| running.iter().map(picture).collect()).unwrap_or_default()
    }

    fn picture(&self) -> Picture {
        Picture {
            captures: self.captures(),
            in_flight_bytes: self.budget.used_bytes(),
            in_flight_bytes_max: self.budget.bytes_max(),
            readers_waiting: self.budget.waiting_count(),
            buckets: self.buckets.lock().expect("no panic under this lock").iter().copied().collect(),
        }
    }

    fn entries(&self) -> u64 {
        let of = |running: &Running| running.stats.snapshot().entries;
        self.running.upgrade().map(|running| running.iter().map(of).sum()).unwrap_or_default()
    }

    /// Everything that Prometheus scrapes.
    fn metrics(&self) -> String {
        let mut text = String::new();
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        let mut text = text.trim_end().trim_end_matches("# EOF").trim_end().to_owned();
        text.push('\n');
        let mut put = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            let suffix = if kind == "counter" { "_total" } else { "" };
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{suffix}{labels} {value}");
            }
        };
        let captures = self.captures();
        let each = |value: fn(&CapturePicture) -> u64| -> Vec<(String, u64)> {
            captures.iter().map(|one| (format!("{{capture=\"{}\"}}", one.name), value(one))).collect()
        };
        put("weir_source_connections", "gauge", "Connections open", &each(|one| one.connections));
        put("weir_source_calls_open", "gauge", "Calls not answered yet", &each(|one| one.calls_open));
        put("weir_source_calls", "counter", "Calls taken", &each(|one| one.calls));
        put("weir_source_bytes", "counter", "Frame bytes taken", &each(|one| one.bytes));
        put("weir_source_done", "counter", "Calls answered OK", &each(|one| one.done));
        put("weir_source_again", "counter", "Calls answered with a retriable error", &each(|one| one.again));
        put(
            "weir_source_late",
            "counter",
            "Calls given up before the source's time-out",
            &each(|one| one.late),
        );
        put(
            "weir_source_overlaps",
            "counter",
            "Retries that overlapped their first attempt",
            &each(|one| one.overlaps),
        );
        let refused: Vec<(String, u64)> = captures
            .iter()
            .flat_map(|one| {
                one.refused
                    .iter()
                    .map(|(why, count)| (format!("{{capture=\"{}\",reason=\"{why}\"}}", one.name), *count))
            })
            .collect();
        put("weir_source_refused", "counter", "Connections and calls refused, by reason", &refused);
        put(
            "weir_in_flight_bytes",
            "gauge",
            "Bytes of calls in flight",
            &[(String::new(), self.budget.used_bytes() as u64)],
        );
        put(
            "weir_in_flight_bytes_max",
            "gauge",
            "The budget",
            &[(String::new(), self.budget.bytes_max() as u64)],
        );
        text.push_str("# EOF\n");
        text
    }
}

fn picture(running: &Running) -> CapturePicture {
    let snapshot = running.stats.snapshot();
    let source = |(address, source): (String, weir_hbase::replication::SourceSnapshot)| SourcePicture {
        address,
        version: source.version,
        connections: source.connections,
        calls: source.calls,
        entries: source.entries,
        bytes: source.bytes,
        last_write_ms: source.last_write_ms,
    };
    CapturePicture {
        name: running.name.clone(),
        address: running.address.to_string(),
        trouble: running.trouble(),
        connections: snapshot.connections_open,
        calls_open: snapshot.calls_open,
        calls: snapshot.calls,
        entries: snapshot.entries,
        cells: snapshot.cells,
        bytes: snapshot.bytes,
        done: snapshot.done,
        again: snapshot.again,
        late: snapshot.late,
        overlaps: snapshot.overlaps,
        refused: snapshot.refused.into_iter().collect(),
        sources: snapshot.sources.into_iter().map(source).collect(),
        tables: running.board.tables(),
        faults: running.board.faults(),
    }
}

/// Serves the console until stopped. Returns the address, for port 0.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: &str, source: Arc<Source>, stop: Stop) -> Result<SocketAddr, Fault> {
    let unusable = |error: std::io::Error| {
        Fault::new(FaultKind::Config, "W-LISTEN", "listen for the console", listen).caused_by(error)
    };
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    tokio::spawn(sample(Arc::clone(&source), stop.clone()));
    let events = stop.clone();
    let router = Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/console.js", get(script))
        .route(
            "/board",
            get(async |State(source): State<Arc<Source>>| axum::response::Json(source.picture())),
        )
        .route(
            "/events",
            get(async move |State(source): State<Arc<Source>>| Sse::new(pictures(source, events))),
        )
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "live\n"))
        .route("/readyz", get(ready))
        .with_state(source);
    let mut stopped = stop;
    tokio::spawn(async move {
        let ended = axum::serve(listener, router)
            .with_graceful_shutdown(async move { stopped.stopped().await })
            .await;
        if let Err(error) = ended {
            tracing::error!(%error, "the console has ended");
        }
    });
    Ok(address)
}

async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("console.js")).into_response()
}

async fn metrics(State(source): State<Arc<Source>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], source.metrics()).into_response()
}

/// Ready: every capture is registered, so that sources can find it.
async fn ready(State(source): State<Arc<Source>>) -> Response {
    let troubles: Vec<String> = source.captures().into_iter().filter_map(|one| one.trouble).collect();
    if troubles.is_empty() {
        (StatusCode::OK, "ready\n".to_owned()).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n").into_response()
    }
}

/// Notes entries per 100 ms.
async fn sample(source: Arc<Source>, mut stop: Stop) {
    let mut clock = tokio::time::interval(BUCKET);
    let mut before = source.entries();
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            () = stop.stopped() => return,
        }
        let now = source.entries();
        let mut buckets = source.buckets.lock().expect("no panic under this lock");
        if buckets.len() == BUCKETS_MAX {
            buckets.pop_front();
        }
        buckets.push_back(now - before);
        before = now;
    }
}

/// A picture every 250 ms, until stopped.
fn pictures(source: Arc<Source>, stop: Stop) -> impl Stream<Item = Result<Event, axum::Error>> {
    const EVERY: Duration = Duration::from_millis(250);
    futures::stream::unfold((source, stop), async |(source, stop)| {
        if stop.is_stopped() {
            return None;
        }
        let event = Event::default().json_data(source.picture());
        tokio::time::sleep(EVERY).await;
        Some((event, (source, stop)))
    })
}

//! Console, health and metrics: one page that shows every capture, live.
//!
//! Pages are embedded, nothing is loaded from elsewhere. The console only reads counters; it never reaches into a call.
//! [`Source`] looks at them four times a second, once for all who watch.

mod explain;
mod metrics;
mod page;
mod picture;
mod play;
mod rates;
mod refused;
#[cfg(test)]
mod tests;
mod units;

pub use play::{Account, Play};

use crate::capture::Running;
use crate::timeline::{Timeline, now_ms};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures::Stream;
use picture::{Look, Picture};
use prometheus_client::registry::Registry;
use rates::Rates;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use weir_model::{Fault, FaultKind};
use weir_runtime::budget::Budget;
use weir_runtime::drain::Stop;

/// How often counters are looked at, and the page changes.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// When a browser that has lost us tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// On every answer. No script, style, picture or connection but our own, in no frame.
const GUARDS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// What the console shows.
pub struct Source {
    running: Weak<Vec<Running>>,
    budget: Budget,
    registry: Registry,
    timeline: Arc<Timeline>,
    play: Option<Arc<Play>>,
    started_ms: u64,
    rates: Mutex<Rates>,
    latest: watch::Sender<Arc<Picture>>,
}

impl Source {
    /// A console over these captures, which it does not keep alive; `timeline` is that of their meter.
    #[must_use]
    pub fn new(
        running: &Arc<Vec<Running>>,
        budget: Budget,
        registry: Registry,
        timeline: Arc<Timeline>,
    ) -> Self {
        let mut rates = Rates::default();
        let started_ms = now_ms();
        let mut look =
            Look { rates: &mut rates, now: Instant::now(), now_ms: started_ms, budget: &budget, outside: 0 };
        let first = look.picture(running, started_ms, None);
        let (running, latest) = (Arc::downgrade(running), watch::Sender::new(Arc::new(first)));
        Self { running, budget, registry, timeline, play: None, started_ms, rates: Mutex::new(rates), latest }
    }

    /// With the demonstration's account.
    #[must_use]
    pub fn with_play(mut self, play: Arc<Play>) -> Self {
        self.play = Some(play);
        self
    }

    /// Looks at all counters.
    fn look(&self) -> Picture {
        let running = self.running.upgrade();
        let running = running.as_ref().map_or(&[][..], |running| running.as_slice());
        let play = self.play.as_ref().map(|play| play.account());
        let mut rates = self.rates.lock().expect("no panic under this lock");
        let outside = self.timeline.outside();
        let mut look =
            Look { rates: &mut rates, now: Instant::now(), now_ms: now_ms(), budget: &self.budget, outside };
        look.picture(running, self.started_ms, play)
    }

    /// Why region servers cannot find a capture, for each that they cannot.
    fn troubles(&self) -> Vec<String> {
        let running = self.running.upgrade();
        running.iter().flat_map(|running| running.iter()).filter_map(Running::trouble).collect()
    }
}

/// Serves the console until stopped. Returns the address, for port 0.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: &str, source: Source, stop: Stop) -> Result<SocketAddr, Fault> {
    let unusable = |error: std::io::Error| {
        Fault::new(FaultKind::Config, "W-LISTEN", "listen for the console", listen).caused_by(error)
    };
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let source = Arc::new(source);
    tokio::spawn(look_on(Arc::clone(&source), stop.clone()));
    let events = stop.clone();
    let router = Router::new()
        .route("/", get(front))
        .route("/console.js", get(async || file("text/javascript", include_str!("console.js"))))
        .route("/console.css", get(async || file("text/css", include_str!("console.css"))))
        .route("/icon.svg", get(async || file("image/svg+xml", include_str!("icon.svg"))))
        .route("/board", get(async |State(source): State<Arc<Source>>| axum::Json(source.look())))
        .route(
            "/events",
            get(async move |State(source): State<Arc<Source>>| Sse::new(changes(source, events))),
        )
        .route("/explain", get(async || or_gone(explain::list())))
        .route("/explain/{code}", get(async |Path(code): Path<String>| or_gone(explain::page(&code))))
        .route("/metrics", get(scrape))
        .route("/livez", get(async || "live\n"))
        .route("/readyz", get(ready))
        .layer(axum::middleware::from_fn(guard))
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

async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in GUARDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, format!("{kind}; charset=utf-8"))], text).into_response()
}

fn or_gone(page: Option<String>) -> Response {
    match page {
        Some(page) => Html(page).into_response(),
        None => (StatusCode::NOT_FOUND, "there is no such page; /explain lists all codes\n").into_response(),
    }
}

async fn front(State(source): State<Arc<Source>>) -> Response {
    or_gone(page::page(&source.latest.borrow().clone()))
}

async fn scrape(State(source): State<Arc<Source>>) -> Response {
    let text = metrics::text(&source.registry, &source.look());
    ([(header::CONTENT_TYPE, metrics::KIND)], text).into_response()
}

/// Ready: every capture is registered, so that sources can find it. Sources that found it and are refused are named:
/// a restart would not help them.
async fn ready(State(source): State<Arc<Source>>) -> Response {
    let troubles = source.troubles();
    if troubles.is_empty() {
        let mut text = "ready\n".to_owned();
        for one in &source.look().captures {
            for refused in &one.refused {
                text += &format!("capture.{}: {}\n", one.name, refused::line(refused));
            }
        }
        (StatusCode::OK, text).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n").into_response()
    }
}

/// Looks at the counters in a steady rhythm, for all who watch and for the rates.
async fn look_on(source: Arc<Source>, mut stop: Stop) {
    let mut clock = tokio::time::interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            () = stop.stopped() => return,
        }
        source.latest.send_replace(Arc::new(source.look()));
    }
}

/// One live change of the page.
#[derive(Serialize)]
struct Change {
    /// Tells a restarted process from the one before: its chart begins anew.
    started_ms: u64,
    now_ms: u64,
    title: String,
    board: String,
    /// Buckets of the chart that have changed; all at first.
    buckets: Vec<(u64, u64)>,
    play: Option<Account>,
}

/// A change with each look, until stopped; the first has everything.
fn changes(source: Arc<Source>, stop: Stop) -> impl Stream<Item = Result<Event, axum::Error>> {
    let mut pictures = source.latest.subscribe();
    pictures.mark_changed();
    futures::stream::unfold((source, pictures, stop, 0), async |(source, mut pictures, mut stop, version)| {
        tokio::select! {
            changed = pictures.changed() => changed.ok()?,
            () = stop.stopped() => return None,
        }
        let picture = Arc::clone(&pictures.borrow_and_update());
        let fresh = source.timeline.since(version, picture.now_ms);
        let (board, title) = page::live(&picture);
        let change = Change {
            started_ms: picture.started_ms,
            now_ms: picture.now_ms,
            title,
            board,
            buckets: fresh.buckets,
            play: picture.play.clone(),
        };
        let event = Event::default().retry(RETRY_AFTER).json_data(change);
        Some((event, (source, pictures, stop, fresh.version)))
    })
}

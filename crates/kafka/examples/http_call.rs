//! One HTTP call for each record: hundreds are under way at once on a few threads, each key's one after the other.
//!
//! `cargo x engines up kafka`, then `cargo run -p weir-kafka --example http_call [BOOTSTRAP]`. A server in this process
//! takes 50 ms for each call and answers every tenth with 503. It prints how long 1,000 calls took, where one after the
//! other they would take 50 s, and how many were tried again.

mod broker;

use broker::{Broker, Failure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_runtime::consumer::Consumer;
use weir_runtime::handler::Handler;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_runtime::retry::RetryPolicy;

const RECORDS: usize = 1000;
const KEYS: usize = 200;

/// The service: tells somebody else about each record.
struct Notifier {
    address: SocketAddr,
}

impl Handler for Notifier {
    async fn handle(&self, record: Record) -> Outcome {
        let (user, text) = record.text();
        // Whatever client a service has, its answer becomes an outcome in the same way.
        match post(self.address, &format!("/notify/{user}"), &text).await {
            Ok(200..300) => Outcome::Done,
            Ok(status @ 400..500) => Outcome::dead_letter(format!("refused with {status}")),
            Ok(status) => Outcome::failed(format!("answered with {status}")),
            Err(error) => Outcome::failed(error.to_string()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let most_at_once = Arc::new(AtomicUsize::new(0));
    let server = tokio::spawn(serve(listener, Arc::clone(&most_at_once)));
    let records = (0..RECORDS).map(|number| (format!("user-{}", number % KEYS), format!("message {number}")));
    let broker = Broker::prepare("http-call", &[], records).await?;

    let config = SourceConfig::new(&broker.bootstrap, "notifier", &[broker.topics[0].as_str()]);
    let running = Consumer::new(KafkaSource::new(config))
        .concurrency(KEYS)
        .retry(RetryPolicy { first: Duration::from_millis(50), ..RetryPolicy::default() })
        .start(Notifier { address })
        .await?;
    // Joining the group takes its time; what counts begins with the first record.
    while running.counts().received == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let started = Instant::now();
    while (running.counts().done as usize) < RECORDS && started.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = started.elapsed();
    let counts = running.stop(Duration::from_secs(5)).await?;
    server.abort();
    println!(
        "{} calls done in {} ms, {} of them tried again, at most {} at once",
        counts.done,
        took.as_millis(),
        counts.retried,
        most_at_once.load(Ordering::Relaxed)
    );
    Ok(())
}

/// The status of the answer.
async fn post(address: SocketAddr, path: &str, body: &str) -> std::io::Result<u16> {
    let mut socket = TcpStream::connect(address).await?;
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: example\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| std::io::Error::other("the answer has no status"))
}

/// Somebody else: takes 50 ms, and every tenth call is one too many.
async fn serve(listener: TcpListener, most_at_once: Arc<AtomicUsize>) {
    let now = Arc::new(AtomicUsize::new(0));
    for number in 1usize.. {
        let Ok((mut socket, _)) = listener.accept().await else { return };
        let (now, most_at_once) = (Arc::clone(&now), Arc::clone(&most_at_once));
        tokio::spawn(async move {
            most_at_once.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let status = if number % 10 == 0 { "503 Service Unavailable" } else { "200 OK" };
            let _ =
                socket.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
            now.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

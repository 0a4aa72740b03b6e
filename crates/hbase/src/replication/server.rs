//! Listening, and an orderly end.

use super::connection::{Shared, serve};
use super::{Handler, Stats};
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use weir_model::{ClusterId, limits};
use weir_runtime::budget::Budget;
use weir_runtime::drain::{Drain, Stop};
use weir_wire::hbase::zk::ServerName;

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Largest frame that is taken, bytes.
    pub frame_bytes_max: usize,
    /// Part of the source's time-out that is kept as a margin, percent.
    pub answer_margin_percent: u32,
    /// Time in which a started frame must arrive.
    pub frame_wait: Duration,
    /// Id of the fake peer cluster, for sources of 3.0.
    pub cluster_id: ClusterId,
    /// Its virtual region servers, for sources of 3.0.
    pub servers: Vec<ServerName>,
}

impl ServerConfig {
    /// Defaults for a fake cluster with this id.
    #[must_use]
    pub const fn new(cluster_id: ClusterId) -> Self {
        Self {
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            answer_margin_percent: 25,
            frame_wait: Duration::from_millis(limits::FRAME_WAIT_MS_MAX),
            cluster_id,
            servers: Vec::new(),
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    local_address: SocketAddr,
    shared: Arc<Shared>,
    drain: Drain,
    accept: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves a listener.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(
        listener: TcpListener,
        config: ServerConfig,
        handler: Arc<dyn Handler>,
        budget: Budget,
    ) -> std::io::Result<Self> {
        let mut server = Self::unbound(listener.local_addr()?, config, handler, budget);
        server.accept =
            Some(tokio::spawn(accept(listener, Arc::clone(&server.shared), server.drain.listener())));
        Ok(server)
    }

    /// A server without a listener, for the simulator: connections come by [`Server::serve`] only.
    #[must_use]
    pub fn unbound(
        local_address: SocketAddr,
        config: ServerConfig,
        handler: Arc<dyn Handler>,
        budget: Budget,
    ) -> Self {
        let shared = Arc::new(Shared {
            config,
            handler,
            budget,
            stats: Arc::new(Stats::default()),
            is_draining: AtomicBool::new(false),
        });
        let (drain, _) = Drain::new();
        Self { local_address, shared, drain, accept: None }
    }

    /// Serves one connection that came another way than by the listener. The address is what the counters name it by.
    pub fn serve<R, W>(&self, reader: R, writer: W, address: SocketAddr)
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        tokio::spawn(serve(reader, writer, address, Arc::clone(&self.shared), self.drain.listener()));
    }

    /// Address that it listens on.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.shared.stats)
    }

    /// Ends: new calls are refused with a retriable exception, open ones may finish until the deadline, then all
    /// connections are closed. Returns how many calls were still open.
    pub async fn drain(self, wait_max: Duration) -> u64 {
        const LOOK: Duration = Duration::from_millis(10);
        self.shared.is_draining.store(true, Ordering::Release);
        let deadline = tokio::time::Instant::now() + wait_max;
        while self.shared.stats.calls_open() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        let open = self.shared.stats.calls_open();
        self.drain.stop();
        // Connections answer what is open with an exception and close; their writers need a moment.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.drain.ended()).await;
        if let Some(accept) = self.accept {
            accept.abort();
        }
        open
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: Stop) {
    const AFTER_ERROR: Duration = Duration::from_millis(100);
    let slots = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let mut stopped = stop.clone();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the slots are never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped.stopped() => return,
        };
        match accepted {
            Ok((socket, address)) => {
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                let _ = socket.set_nodelay(true);
                // As a real server has it (`hbase.ipc.server.tcpkeepalive`): a source that lost its power says nothing.
                let alive = TcpKeepalive::new()
                    .with_time(Duration::from_secs(limits::KEEP_ALIVE_IDLE_S))
                    .with_interval(Duration::from_secs(limits::KEEP_ALIVE_EVERY_S));
                let _ = SockRef::from(&socket).set_tcp_keepalive(&alive);
                let (reader, writer) = socket.into_split();
                tokio::spawn(async move {
                    serve(reader, writer, address, shared, stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

//! One connection and one window for each server that is talked to.

use super::{Answer, Connection, Hello, RpcError, Window};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use weir_wire::hbase::zk::ServerName;

/// How long one try to connect may take.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// All servers of a service, by address.
#[derive(Debug)]
pub struct Servers {
    hello: Hello,
    calls_per_server_max: usize,
    servers: Mutex<HashMap<String, Arc<Server>>>,
}

/// One server.
#[derive(Debug)]
pub struct Server {
    address: String,
    hello: Hello,
    window: Window,
    connection: tokio::sync::Mutex<Place>,
}

/// Where the connection of a server is kept.
#[derive(Debug, Default)]
struct Place {
    connection: Option<Arc<Connection>>,
    /// When a try to connect failed last, and how.
    failed: Option<(Instant, RpcError)>,
}

impl Servers {
    /// None is connected to before it is called.
    #[must_use]
    pub fn new(hello: Hello, calls_per_server_max: usize) -> Self {
        Self { hello, calls_per_server_max, servers: Mutex::default() }
    }

    /// The server at this address. A server that was started again at the same address is the same here.
    #[must_use]
    pub fn at(&self, name: &ServerName) -> Arc<Server> {
        let address = match name.host.contains(':') {
            true => format!("[{}]:{}", name.host, name.port),
            false => format!("{}:{}", name.host, name.port),
        };
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.entry(address).or_insert_with_key(|address| {
            Arc::new(Server {
                address: address.clone(),
                hello: self.hello.clone(),
                window: Window::new(self.calls_per_server_max),
                connection: tokio::sync::Mutex::default(),
            })
        });
        server.clone()
    }
}

impl Server {
    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many calls may be in flight now.
    #[must_use]
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Waits for a place in the window, connects if need be, calls, and adapts the window to the answer.
    ///
    /// # Errors
    /// As [`Connection::open`] and [`Connection::call`].
    pub async fn call(
        &self,
        method: &'static str,
        param: &[u8],
        block: &[u8],
        deadline: Instant,
    ) -> Result<Answer, RpcError> {
        let started = Instant::now();
        let timed_out = |_| RpcError::TimedOut {
            address: self.address.clone(),
            method,
            waited: started.elapsed(),
            is_sent: false,
        };
        let permit = timeout_at(deadline, self.window.enter()).await.map_err(timed_out)?;
        let connection = timeout_at(deadline, self.connection(deadline)).await.map_err(timed_out)??;
        let answer = connection.call(method, param, block, deadline).await;
        match &answer {
            Ok(_) => permit.good(),
            Err(RpcError::Remote { exception, .. })
                if exception.is_overloaded || exception.short_class() == "CallQueueTooBigException" =>
            {
                permit.overloaded();
            }
            Err(_) => drop(permit),
        }
        answer
    }

    /// Drops the connection, if it is open: the next call makes another. For a server that says it is going down.
    pub fn disconnect(&self) {
        // Somebody who connects at this moment makes a new connection anyway.
        if let Ok(mut place) = self.connection.try_lock() {
            place.connection = None;
        }
    }

    async fn connection(&self, deadline: Instant) -> Result<Arc<Connection>, RpcError> {
        let asked = Instant::now();
        let mut place = self.connection.lock().await;
        if let Some(connection) = place.connection.as_ref().filter(|connection| !connection.is_ended()) {
            return Ok(connection.clone());
        }
        // Those who waited for a try that failed do not each try once more, one after the other.
        if let Some((failed, error)) = &place.failed
            && *failed >= asked
        {
            return Err(error.clone());
        }
        let deadline = deadline.min(Instant::now() + CONNECT_WAIT);
        match Connection::open(&self.address, &self.hello, deadline).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *place = Place { connection: Some(connection.clone()), failed: None };
                Ok(connection)
            }
            Err(error) => {
                *place = Place { connection: None, failed: Some((Instant::now(), error.clone())) };
                Err(error)
            }
        }
    }
}

//! A TCP relay whose connections can be cut: a network that fails between two real processes.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A running relay. Its threads end with its connections and with the process.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Relays a free loopback port to `target`.
    ///
    /// # Panics
    /// When loopback has no free port.
    #[must_use]
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let (inner, target) = (Arc::clone(&shared), target.to_owned());
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                // While it is cut the port still answers and closes at once, as a firewall that resets does.
                if inner.is_cut.load(Ordering::Acquire) {
                    continue;
                }
                let Ok(other) = TcpStream::connect(&target) else { continue };
                let mut open = inner.open.lock().expect("no panic under this lock");
                open.extend([socket.try_clone(), other.try_clone()].into_iter().flatten());
                drop(open);
                relay(&socket, &other);
                relay(&other, &socket);
            }
        });
        Self { address, shared }
    }

    /// `host:port` of its near side.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Closes every connection, and each new one at once, until [`Proxy::mend`].
    ///
    /// # Panics
    /// Never: its threads do not panic.
    pub fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::Release);
        for socket in self.shared.open.lock().expect("no panic under this lock").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Relays again.
    pub fn mend(&self) {
        self.shared.is_cut.store(false, Ordering::Release);
    }
}

fn relay(from: &TcpStream, to: &TcpStream) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

//! The RPC of HBase 0.96 and later from the caller's side: one connection carries many calls at a time.
//!
//! [`Connection`] says hello, frames calls and matches answers by call id; a call ends by its deadline at the latest, and
//! all calls of a connection end when the connection does. [`Servers`] keeps one connection for each server, and a
//! [`Window`] that shrinks when the server says that it is overloaded.

mod connection;
mod error;
mod servers;
mod window;

pub use connection::{Answer, Connection, Hello};
pub use error::RpcError;
pub use servers::{Server, Servers};
pub use window::{Permit, Window};

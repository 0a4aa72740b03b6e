//! The replication server as a hostile or faltering network meets it, and the client on real servers and scripted ones.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails")]

mod captured;
mod client;
mod crowd;
mod deadline;
mod server;
mod tables;

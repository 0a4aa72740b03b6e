//! The binary as a user meets it, and whole pipelines on real engines.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails")]

mod browser;
mod command;
mod console;
mod order;
mod real;
mod reports;
mod sim;
mod watch;
mod weir;

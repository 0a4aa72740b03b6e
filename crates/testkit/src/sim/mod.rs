//! The seeded simulator: a whole source cluster and a log without engines, sockets or waiting.
//!
//! One thread, one paused clock, every chance from one seed. The code under test is the real one: it is handed real
//! RPC bytes through pipes and writes to a log that misbehaves by script. The caller puts the two together ([`Site`]).

pub mod book;
pub mod cluster;
pub mod link;
pub mod log;
pub mod plan;
mod run;
pub mod script;
mod stranger;

pub use run::{Outcome, Rest, Site, run};

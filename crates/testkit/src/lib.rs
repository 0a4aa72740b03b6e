//! Real engines for tests, fetched from package registries and run as separate processes, and a simulator for runs
//! that need none.
//!
//! Dev-dependency only. Everything here panics with a clear text when an engine does not do what it should: that is a
//! failed test.

pub mod campaign;
pub mod engine;
pub mod fuzz;
pub mod proxy;
pub mod scale;
pub mod sim;
pub mod table;

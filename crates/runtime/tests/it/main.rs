//! The keyed runtime over a log in memory, on a clock that jumps.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails")]

mod app;
mod batch;
mod blocking;
mod broken;
mod corpus;
mod dashboard;
mod flow;
mod judge;
mod lanes;
mod new_life;
mod quota;
mod rebalance;
mod refused;
mod reports;
mod retry;
mod retry_topic;
mod runs;
mod schedule;
mod seeing;
mod shares;
mod spans;
mod takeover;
mod users;

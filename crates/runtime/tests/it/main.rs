//! The keyed runtime over a log in memory, on a clock that jumps.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails")]

mod batch;
mod broken;
mod dashboard;
mod flow;
mod judge;
mod lanes;
mod new_life;
mod rebalance;
mod retry;
mod schedule;
mod seeing;
mod shares;
mod spans;

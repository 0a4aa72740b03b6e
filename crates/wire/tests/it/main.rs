//! What `wire` promises of its bytes: golden vectors of real engines, round trips, and lies that must not hurt.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails")]

mod captured;
mod client;
mod corpus;
mod envelopes;
mod golden;
mod lies;
mod masters;
mod round_trip;

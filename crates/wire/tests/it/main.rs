//! What `wire` promises of its bytes: golden vectors of real engines, round trips, and lies that must not hurt.

mod golden;
mod lies;
mod round_trip;

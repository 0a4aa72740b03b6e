//! The seeded simulator of the keyed runtime: members of a group over a log, with faults and without an engine.
//!
//! One thread, one paused clock, every chance from one seed. The consumers are the real ones; log, group, handlers and
//! the writer of dead letters misbehave by script, and a book checks every act. `docs/simulator.md` has the promises.

mod book;
mod group;
mod member;
mod plan;
mod run;
mod script;
mod tests;
mod world;

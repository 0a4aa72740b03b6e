//! One partition, many workers, in order per key: the keyed runtime; and the ports and machinery around it. Knows no
//! engine by name.
//!
//! A service writes a [`handler`] that says an [`outcome`] for each [`record`], and starts a [`consumer`] over a
//! [`source`]. [`batch`] collects records for handlers of many, [`blocking`] runs what computes, [`app`] decides and
//! leaves the doing to its rim, [`deferred`] completes from elsewhere. Failed records are tried again in place by a
//! [`retry`] policy or go to the [`dead_letter`]s; [`health`] and [`stats`] tell how it goes, [`intake`] why nothing
//! comes, [`spans`] go on with a record's [`trace`]; [`flow`] changes at run time how much is taken, also from a
//! [`flow_file`]; a [`quota`] says what one key may take, and [`shaping`] where the rest goes; [`testing`] needs no
//! broker.
//!
//! [`log`] is the port that takes records, [`budget`] bounds the bytes in flight, [`drain`] stops a process in order,
//! [`topic`]s are names that are kept once. [`window`] and [`offset_map`] say which records of a partition are done.
//! [`retry_topic`], [`decaton`] and [`parallel_consumer`] are for teams that come from elsewhere.

mod admission;
pub mod app;
mod assignment;
pub mod batch;
pub mod blocking;
pub mod budget;
pub mod by_topic;
pub mod consumer;
pub mod dead_letter;
mod deadline;
pub mod decaton;
pub mod deferred;
pub mod drain;
mod ending;
pub mod flow;
pub mod flow_file;
pub mod handler;
pub mod health;
mod histogram;
pub mod hooks;
pub mod intake;
mod lane;
pub mod log;
mod mailbox;
mod meter;
#[cfg(test)]
mod mutant;
pub mod offset_map;
pub mod outcome;
mod outlets;
pub mod parallel_consumer;
mod partition;
mod permits;
mod poller;
pub mod quota;
pub mod record;
pub mod retry;
pub mod retry_topic;
pub mod shaping;
mod shard;
#[cfg(test)]
mod sim;
pub mod source;
pub mod spans;
pub mod stats;
mod step;
mod stopwatch;
mod task;
pub mod testing;
pub mod topic;
pub mod trace;
pub mod wake;
pub mod window;

//! Commands, configuration, assembly and console of Weir.
//!
//! Floor 4: the only place where what decides (`apps`) meets what acts (`kafka`, `hbase`). It makes no decision
//! about data.

pub mod capture;
mod captured;
pub mod cli;
pub mod config;
pub mod console;
pub mod demo;
pub mod diagnosis;
pub mod exit;
pub mod failures;
pub mod meter;
mod open_files;
pub mod pages;
mod telemetry;
pub mod timeline;
pub mod topic_creator;
pub mod topic_watch;
mod topics;

/// The allocator of the whole process, librdkafka included (feature `override`).
///
/// Each record costs librdkafka four allocations in one thread that another thread frees. The C library's allocator
/// takes locks and walks lists for that: a tenth of all CPU (`cargo x bench capture`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

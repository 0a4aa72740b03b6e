//! Commands, configuration, assembly and console of Weir.
//!
//! Floor 4: the only place where what decides (`apps`) meets what acts (`kafka`, `hbase`). It makes no decision
//! about data.

pub mod capture;
pub mod cli;
pub mod config;
pub mod console;
pub mod demo;
pub mod exit;
pub mod meter;
mod open_files;
pub mod pages;
mod telemetry;
pub mod timeline;

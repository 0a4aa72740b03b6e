//! The binary as a user meets it, and whole pipelines on real engines.

mod real;
mod weir;

//! What Weir decides: one folder per capability, pure. No socket, file, clock or random source here.

pub mod capture;

//! Bytes to values and back, for every protocol that Weir speaks. Sans-IO: no sockets, files, clocks or async.
//!
//! No byte from outside is indexed, unwrapped or allocated for unchecked: reading goes through [`cursor`].

pub mod change;
pub mod cursor;
pub mod hbase;
pub mod identity;

pub use cursor::WireError;

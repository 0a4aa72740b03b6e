//! The client of tables: against servers that follow a script, and against real HBase.

mod calls;
mod real;

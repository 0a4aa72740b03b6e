//! Groups and topics of other consumer libraries.

mod real;

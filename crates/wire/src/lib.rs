//! Bytes to values and back for every protocol Weir speaks; sans-IO.

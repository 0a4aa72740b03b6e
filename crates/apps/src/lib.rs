//! What Weir decides: one folder per capability, pure.

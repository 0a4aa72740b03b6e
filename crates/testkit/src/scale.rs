//! How long campaigns run: the short form in every `cargo x test`, the full form in `cargo x soak`.

/// Environment variable that `cargo x soak` sets.
pub const VARIABLE: &str = "WEIR_SOAK";

/// Whether this is `cargo x soak`.
#[must_use]
pub fn is_full() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// One of two: the short form's value, or the full form's.
#[must_use]
pub fn pick<T>(short: T, full: T) -> T {
    if is_full() { full } else { short }
}

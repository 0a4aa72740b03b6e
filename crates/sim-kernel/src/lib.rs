//! What every seeded simulator needs, and nothing of what it simulates: [`Rng`], a campaign over many seeds, and the
//! shrinking of a schedule that fails. Standard library only, so that a unit test of any crate can use it.
//!
//! A run must depend on its seed alone. Then a seed that fails is the whole report.

mod campaign;
mod rng;
mod shrink;

pub use campaign::{Judged, SEED_VARIABLE, SEEDS_VARIABLE, STORIES_MAX, Seeds, campaign, seed_that_catches};
pub use rng::Rng;
pub use shrink::{fewest, fewest_in_pieces};

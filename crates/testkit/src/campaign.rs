//! What a campaign did, in figures: printed at its end, and handed to `cargo x soak`, which keeps them in
//! `docs/reliability.md`. And the seed that its random moments come from.

use std::fmt::{self, Display};
use std::io::Write as _;
use weir_sim_kernel::Rng;

/// Environment variable with the file that reports are appended to, one line each.
pub const REPORT_VARIABLE: &str = "WEIR_CAMPAIGN_REPORT";

/// Environment variable with the seed, to run the same moments again.
pub const SEED_VARIABLE: &str = "WEIR_SEED";

/// Figures of one campaign.
#[derive(Clone, Debug)]
pub struct Report {
    name: String,
    figures: Vec<(String, String)>,
}

impl Report {
    /// A report under a name; a later one of the same name replaces it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), figures: Vec::new() }
    }

    /// Adds a figure; its unit is the end of its name.
    #[must_use]
    pub fn figure(mut self, name: &str, value: impl Display) -> Self {
        self.figures.push((name.to_owned(), value.to_string()));
        self
    }

    /// Prints it, and hands it on when somebody collects reports.
    ///
    /// # Panics
    /// When the file of the collector cannot be written.
    pub fn publish(&self) {
        println!("campaign {self}");
        let Some(path) = std::env::var_os(REPORT_VARIABLE) else { return };
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("the report's file is writable");
        writeln!(file, "{self}").expect("the report's file is writable");
    }
}

/// `name: figure = value; figure = value`.
impl Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures: Vec<String> =
            self.figures.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        write!(out, "{}: {}", self.name, figures.join("; "))
    }
}

/// Returns random numbers from the environment's seed, else from this one, and prints which: the same seed makes the
/// same campaign.
///
/// # Panics
/// When the environment's seed is no number.
#[must_use]
pub fn rng(seed: u64) -> Rng {
    let seed = std::env::var(SEED_VARIABLE)
        .map_or(seed, |text| text.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE}={text:?}")));
    println!("seed {seed} ({SEED_VARIABLE}={seed} runs the same moments again)");
    Rng::from_seed(seed)
}

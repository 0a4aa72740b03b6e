//! `weir explain CODE`: the page of a fault code.

use super::say;
use crate::exit::Exit;
use crate::pages;

/// Explains a fault code: what happened, what Weir does about it, what you do.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The code, such as W-KAFKA-UNREACHABLE; none lists all.
    code: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let Some(code) = &arguments.code else {
        for page in pages::all() {
            say(&format!("{:28} {}", page.code, page.title()));
        }
        return Exit::Done;
    };
    match pages::find(code) {
        Some(page) => {
            say(page.text.trim_end());
            Exit::Done
        }
        None => {
            eprintln!("weir: there is no fault code {code:?}; `weir explain` lists them all");
            Exit::Usage
        }
    }
}

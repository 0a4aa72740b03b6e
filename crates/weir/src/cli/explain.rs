//! `weir explain CODE`: the page of a fault code.

use super::say;
use crate::exit::Exit;
use crate::pages;

/// Explains a fault code: what happened, what Weir does about it, what you do.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The code, such as W-KAFKA-UNREACHABLE, or a part of it, such as kafka; none lists all.
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
            let part = code.to_ascii_uppercase();
            let alike: Vec<_> = pages::all().iter().filter(|page| page.code.contains(&part)).collect();
            match alike.as_slice() {
                [] => {
                    eprintln!("weir: there is no fault code {code:?}; `weir explain` lists them all");
                    return Exit::Usage;
                }
                [page] => say(page.text.trim_end()),
                pages => pages.iter().for_each(|page| say(&format!("{:28} {}", page.code, page.title()))),
            }
            Exit::Done
        }
    }
}

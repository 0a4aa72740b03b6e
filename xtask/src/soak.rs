//! `cargo x soak [NAME]`: the campaigns in their full form, and their figures into `docs/reliability.md`.

use super::runner::Runner;
use super::{machine, run, step};
use std::collections::BTreeMap;
use std::process::Command;

/// Where the figures are kept, between these lines.
const PAGE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- campaigns: written by `cargo x soak`, do not edit below -->";
const END: &str = "<!-- campaigns end -->";

/// Runs every campaign whose test has NAME in its name; without a name all of them.
pub(crate) fn soak(name: Option<&str>) -> Result<(), String> {
    machine::ensure_libraries()?;
    let runner = Runner::ensure()?;
    machine::ensure_engines()?;
    let report = std::env::temp_dir().join(format!("weir-campaigns-{}.txt", std::process::id()));
    let filter = match name {
        Some(name) => format!("test(/(^|::)real::/) and test({name})"),
        None => "test(/(^|::)real::/)".to_owned(),
    };
    let tested = step("campaigns in full form", || {
        let mut command = runner.command(&["--workspace", "--profile", "soak", "-E", &filter]);
        command.env("WEIR_SOAK", "1").env("WEIR_CAMPAIGN_REPORT", &report);
        run(command)
    });
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    let _ = std::fs::remove_file(&report);
    print!("{text}");
    // What ended well is kept even when something else failed; a failed campaign reports nothing.
    if !text.is_empty() {
        let page = std::fs::read_to_string(PAGE).map_err(|error| format!("{PAGE}: {error}"))?;
        let set = |name: &&str| Some(format!("{name}={} ", std::env::var(name).ok()?));
        let set: String = ["WEIR_SEED", "WEIR_SCENARIOS"].iter().filter_map(set).collect();
        let command = format!("{set}cargo x soak {}", name.unwrap_or_default());
        let how = format!("{}; `{}`; {}", today()?, command.trim_end(), this_machine());
        let page = with_reports(&page, &text, &how)?;
        std::fs::write(PAGE, page).map_err(|error| format!("{PAGE}: {error}"))?;
        println!("{PAGE} holds these figures now");
    }
    tested?;
    // Without this an empty filter would look like success.
    if name.is_none() && text.is_empty() { Err("no campaign reported".to_owned()) } else { Ok(()) }
}

fn today() -> Result<String, String> {
    let made = Command::new("date").args(["-u", "+%F"]).output().map_err(|error| format!("date: {error}"))?;
    Ok(String::from_utf8_lossy(&made.stdout).trim().to_owned())
}

fn this_machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap_or_default();
    format!("{cores} cores, {} GiB", kib.div_ceil(1024 * 1024))
}

/// The page with these reports in it: `NAME: FIGURE = VALUE; ...` a line. Older ones of other names stay.
fn with_reports(page: &str, reports: &str, how: &str) -> Result<String, String> {
    let lines = || format!("{PAGE} needs the lines {BEGIN:?} and {END:?}");
    let (head, rest) = page.split_once(BEGIN).ok_or_else(lines)?;
    let (kept, tail) = rest.split_once(END).ok_or_else(lines)?;
    let mut blocks = BTreeMap::new();
    for block in kept.split("\n### ").skip(1) {
        let (name, body) = block.split_once('\n').unwrap_or((block, ""));
        blocks.insert(name.to_owned(), body.trim().to_owned());
    }
    for line in reports.lines() {
        let (name, figures) = line.split_once(": ").ok_or_else(|| format!("not a report: {line:?}"))?;
        let mut body = format!("{how}\n\n| figure | value |\n| --- | --- |");
        for figure in figures.split("; ") {
            let (figure, value) =
                figure.split_once(" = ").ok_or_else(|| format!("not a figure: {figure:?}"))?;
            body += &format!("\n| {figure} | {value} |");
        }
        blocks.insert(name.to_owned(), body);
    }
    let blocks: Vec<String> = blocks.iter().map(|(name, body)| format!("\n### {name}\n\n{body}\n")).collect();
    Ok(format!("{head}{BEGIN}\n{}\n{END}{tail}", blocks.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_report_replaces_its_own_and_leaves_the_others() {
        let page = format!("# Mine\n\n{BEGIN}\n{END}\nby hand\n");
        let first = with_reports(&page, "b: kills = 3; lost = 0\na: x = 1\n", "then").unwrap();
        let second = with_reports(&first, "b: kills = 20; lost = 0\n", "now").unwrap();
        assert_eq!(
            second,
            format!(
                "# Mine\n\n{BEGIN}\n\n### a\n\nthen\n\n| figure | value |\n| --- | --- |\n| x | 1 |\n\
                 \n### b\n\nnow\n\n| figure | value |\n| --- | --- |\n| kills | 20 |\n| lost | 0 |\n\n{END}\nby hand\n"
            )
        );
        assert!(with_reports("no markers", "a: x = 1", "now").is_err());
        assert!(with_reports(&page, "nonsense", "now").is_err());
    }
}

//! Whether the tables that a capture takes are replicated at all, and reach the peer.

use super::findings::Findings;
use crate::cli::peer::shell;
use crate::cli::peer::verdict::{Obstacle, kept_by_filter};
use crate::config::Capture;
use crate::diagnosis::durability;
use std::collections::BTreeSet;
use weir_apps::capture::Settings;
use weir_model::TableName;
use weir_wire::hbase::peer_config::PeerConfig;
use weir_wire::hbase::schema::Schema;

/// How many tables one line names.
const NAMES_MAX: usize = 10;

/// One table that a capture takes.
struct Taken<'a> {
    schema: &'a Schema,
    /// Families that come: replicated, and not filtered by the capture.
    coming: Vec<String>,
    /// Families with scope 0 that the capture would take.
    silent: Vec<String>,
}

/// Looks at all tables of the source; returns those of which something comes.
pub(super) fn check(
    at: &str,
    section: &Capture,
    settings: &Settings,
    schemas: &[Schema],
    peer: Option<&PeerConfig>,
    findings: &mut Findings,
) -> BTreeSet<TableName> {
    let mut taken: Vec<Taken<'_>> = schemas
        .iter()
        .filter(|schema| settings.takes(&schema.table) && !schema.table.is_system())
        .map(|schema| look(schema, settings))
        .collect();
    taken.sort_by(|left, right| left.schema.table.cmp(&right.schema.table));
    let named: BTreeSet<TableName> = named(section);
    missing(at, &named, schemas, findings);
    for table in taken.iter().filter(|table| named.contains(&table.schema.table)) {
        say_named(at, table, settings.families.contains_key(&table.schema.table), findings);
    }
    say_matched(at, &taken, &named, findings);
    let coming: Vec<&Taken<'_>> = taken.iter().filter(|table| !table.coming.is_empty()).collect();
    if let Some(peer) = peer {
        say_filtered(at, section, &coming, &named, peer, findings);
    }
    for taken in coming.iter().filter(|taken| taken.schema.skips_wal) {
        findings.add(&durability::skips_wal(&taken.schema.table).about(at));
    }
    // Only of those is it said, which the peer is sent at least in part.
    let is_sent = |table: &&&Taken<'_>| {
        peer.is_none_or(|peer| table.coming.iter().any(|family| peer.ships(&table.schema.table, family)))
    };
    let sent: Vec<&Taken<'_>> = coming.iter().filter(is_sent).copied().collect();
    if !sent.is_empty() {
        findings.ok(&format!("{at}: {} tables are replicated: {}", sent.len(), names(&sent)));
    }
    coming.into_iter().map(|table| table.schema.table.clone()).collect()
}

/// Tables that the configuration names letter by letter.
fn named(section: &Capture) -> BTreeSet<TableName> {
    let names = section.tables.include.iter().filter(|name| !name.contains('*'));
    names.chain(section.families.keys()).filter_map(|name| TableName::new(name).ok()).collect()
}

fn look<'a>(schema: &'a Schema, settings: &Settings) -> Taken<'a> {
    let wanted = settings.families.get(&schema.table);
    let (mut coming, mut silent) = (Vec::new(), Vec::new());
    for family in &schema.families {
        if wanted.is_some_and(|wanted| !wanted.contains(&family.name)) {
            continue;
        }
        let name = String::from_utf8_lossy(&family.name).into_owned();
        if family.scope == 0 { silent.push(name) } else { coming.push(name) }
    }
    Taken { schema, coming, silent }
}

fn missing(at: &str, named: &BTreeSet<TableName>, schemas: &[Schema], findings: &mut Findings) {
    for table in named.iter().filter(|table| !schemas.iter().any(|schema| schema.table == **table)) {
        findings.warning(
            &format!("{at}: the source has no table {table}"),
            &format!("hbase shell> create '{table}', {{ NAME => 'FAMILY', REPLICATION_SCOPE => 1 }}    (or fix {at}.tables)"),
        );
    }
}

fn say_named(at: &str, taken: &Taken<'_>, are_families_named: bool, findings: &mut Findings) {
    if taken.silent.is_empty() {
        return;
    }
    let table = &taken.schema.table;
    let fix = format!(
        "weir peer add --table {table}:{}    (HBase 1.x: hbase shell> {})",
        taken.silent.join(","),
        shell::alter(table.as_str(), &taken.silent)
    );
    if taken.coming.is_empty() || are_families_named {
        findings.error(
            &format!(
                "{at}: nothing comes of {table}, families {}: REPLICATION_SCOPE is 0",
                taken.silent.join(", ")
            ),
            &fix,
        );
    } else {
        findings.warning(
            &format!(
                "{at}: families {} of {table} stay at home: REPLICATION_SCOPE is 0",
                taken.silent.join(", ")
            ),
            &fix,
        );
    }
}

/// Tables that only a pattern takes: that none of their families is replicated may be meant so.
fn say_matched(at: &str, taken: &[Taken<'_>], named: &BTreeSet<TableName>, findings: &mut Findings) {
    let silent: Vec<&Taken<'_>> = taken
        .iter()
        .filter(|table| table.coming.is_empty() && !table.silent.is_empty())
        .filter(|table| !named.contains(&table.schema.table))
        .collect();
    let Some(first) = silent.first() else { return };
    let table = &first.schema.table;
    findings.warning(
        &format!(
            "{at}: nothing comes of {} tables that tables.include matches, because REPLICATION_SCOPE is 0: {}",
            silent.len(),
            names(&silent)
        ),
        &format!(
            "weir peer add --table {table}    (HBase 1.x: hbase shell> {}); or leave them out with {at}.tables.exclude",
            shell::alter(table.as_str(), &first.silent)
        ),
    );
}

/// Tables that the peer's own filter keeps: wrong for one that the configuration names, and else perhaps meant so.
fn say_filtered(
    at: &str,
    section: &Capture,
    coming: &[&Taken<'_>],
    named: &BTreeSet<TableName>,
    peer: &PeerConfig,
    findings: &mut Findings,
) {
    for taken in coming {
        let table = &taken.schema.table;
        let kept: Vec<&str> =
            taken.coming.iter().filter(|family| !peer.ships(table, family)).map(String::as_str).collect();
        if kept.is_empty() {
            continue;
        }
        let Obstacle { what, fix } = kept_by_filter(&section.peer, peer, table, &kept.join(", "));
        let what = format!("{at}: {what}");
        if named.contains(table) { findings.error(&what, &fix) } else { findings.warning(&what, &fix) }
    }
}

fn names(tables: &[&Taken<'_>]) -> String {
    let names: Vec<&str> = tables.iter().take(NAMES_MAX).map(|table| table.schema.table.as_str()).collect();
    let more = if tables.len() > NAMES_MAX { ", ..." } else { "" };
    names.join(", ") + more
}

//! Whether a table reaches this capture through the peer, as both stand: facts in, obstacles out.
//!
//! `weir peer add` asks after it has acted, with what it read back, so that it never says "replicated" of what HBase
//! keeps or Weir refuses. `weir check` asks the same about the settings of the peer.

use super::add::{CODEC, COMPRESSOR, sends};
use crate::diagnosis::{Finding, durability};
use weir_apps::capture::Settings;
use weir_model::TableName;
use weir_wire::hbase::cell_block::{Codec, Compressor};
use weir_wire::hbase::peer_config::{Filter, PeerConfig, Wish};
use weir_wire::hbase::schema::Schema;

/// What keeps entries from coming, and the command that takes it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Obstacle {
    pub(in crate::cli) what: String,
    pub(in crate::cli) fix: String,
}

fn obstacle(what: String, fix: impl Into<String>) -> Obstacle {
    Obstacle { what, fix: fix.into() }
}

/// Settings of a peer with which every source is refused.
pub(in crate::cli) fn refused_settings(id: &str, config: &PeerConfig) -> Vec<Obstacle> {
    let set = |name: &str| config.setting(name).filter(|class| !class.is_empty());
    let by_shell = |name: &str, value: &str| {
        format!(
            "(HBase 1.x: hbase shell> update_peer_config '{id}', CONFIG => {{ \"{name}\" => \"{value}\" }})"
        )
    };
    let mut found = Vec::new();
    if let Some(class) = set(CODEC).filter(|class| Codec::of_class(class).is_none()) {
        found.push(obstacle(
            format!("{CODEC} of peer {id} is {class}, which Weir refuses: nothing comes"),
            format!(
                "weir peer add --codec KeyValueCodecWithTags, then restart the region servers    {}",
                by_shell(CODEC, Codec::KeyValueWithTags.class())
            ),
        ));
    }
    if let Some(class) = set(COMPRESSOR).filter(|class| Compressor::of_class(class).is_none()) {
        found.push(obstacle(
            format!("{COMPRESSOR} of peer {id} is {class}, which Weir refuses: nothing comes"),
            format!(
                "weir peer add --compressor none, then restart the region servers    {}",
                by_shell(COMPRESSOR, "")
            ),
        ));
    }
    for (name, refused, instead) in [
        ("hbase.security.authentication", "kerberos", "simple"),
        ("hbase.client.netty.tls.enabled", "true", "false"),
    ] {
        if set(name).is_some_and(|value| value.eq_ignore_ascii_case(refused)) {
            found.push(obstacle(
                format!("{name} of peer {id} is {refused}, which Weir refuses: nothing comes"),
                format!(
                    "hbase shell> update_peer_config '{id}', CONFIG => {{ \"{name}\" => \"{instead}\" }}, then restart the region servers"
                ),
            ));
        }
    }
    found
}

/// What is wrong with the peer as a whole: it ships nothing, every source is refused, or it is not what was asked for.
pub(super) fn of_peer(id: &str, config: &PeerConfig, is_enabled: bool, wish: &Wish) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if !is_enabled {
        found.push(obstacle(format!("peer {id} is disabled and ships nothing"), "weir peer enable"));
    }
    for (name, value) in &wish.settings {
        let now = config.setting(name).unwrap_or_default();
        if now != value {
            found.push(obstacle(
                format!("{name} of peer {id} is {now:?}, not {value:?}"),
                "look at the master's log, and run the command again",
            ));
        }
    }
    if let Some(filter) = wish.filter.as_ref().filter(|filter| !config.filter.is_same(filter)) {
        found.push(obstacle(
            format!("peer {id} is sent {}, not {}", sends(&config.filter), sends(filter)),
            "look at the master's log, and run the command again",
        ));
    }
    if wish.is_serial.is_some_and(|wanted| wanted != config.is_serial) {
        found.push(obstacle(
            format!("SERIAL of peer {id} is {}", config.is_serial),
            "look at the master's log, and run the command again",
        ));
    }
    found.extend(refused_settings(id, config));
    found
}

/// A table that was asked for, as HBase has it.
pub(super) struct Asked<'a> {
    /// Its descriptor; `None` when the source has no such table any more.
    pub(super) schema: Option<&'a Schema>,
    pub(super) table: &'a TableName,
    /// The families that were named; none means all.
    pub(super) families: &'a [String],
}

/// What keeps a table that was asked for.
pub(super) fn of_table(
    id: &str,
    config: &PeerConfig,
    capture: (&str, &Settings),
    asked: &Asked<'_>,
) -> Vec<Obstacle> {
    let (name, settings) = capture;
    let table = asked.table;
    let Some(schema) = asked.schema else {
        return vec![obstacle(
            format!("the source has no table {table}"),
            "create it, and run the command again",
        )];
    };
    let is_asked =
        |family: &str| asked.families.is_empty() || asked.families.iter().any(|name| name == family);
    let families: Vec<(String, u32)> = schema
        .families
        .iter()
        .map(|family| (String::from_utf8_lossy(&family.name).into_owned(), family.scope))
        .filter(|(family, _)| is_asked(family))
        .collect();
    let which = |is_kept: &dyn Fn(&str, u32) -> bool| -> String {
        let kept = families.iter().filter(|(family, scope)| is_kept(family, *scope));
        kept.map(|(family, _)| family.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut found = Vec::new();
    let silent = which(&|_, scope| scope == 0);
    if !silent.is_empty() {
        found.push(obstacle(
            format!("{table} is not replicated, families {silent}: REPLICATION_SCOPE is 0"),
            "look at the master's log, and run the command again",
        ));
    }
    let kept = which(&|family, _| !config.ships(table, family));
    if !kept.is_empty() {
        found.push(kept_by_filter(id, config, table, &kept));
    }
    if schema.skips_wal {
        let Finding { what, fix, .. } = durability::skips_wal(table);
        found.push(obstacle(what, fix));
    }
    let at = format!("capture.{name}");
    if !settings.takes(table) {
        found.push(obstacle(
            format!("{table} is not captured: {at}.tables leaves it out"),
            format!("change {at}.tables.include or {at}.tables.exclude, and start `weir run` again"),
        ));
    } else if let Some(taken) = settings.families.get(table) {
        let named = |family: &str, _| {
            asked.families.iter().any(|name| name == family)
                && !taken.iter().any(|name| name == family.as_bytes())
        };
        let left_out = which(&named);
        if !left_out.is_empty() {
            found.push(obstacle(
                format!("{table} is captured without families {left_out}: {at}.families leaves them out"),
                format!("change {at}.families, and start `weir run` again"),
            ));
        }
    }
    found
}

/// A peer that is not sent families of a table, and how it is made to be.
pub(in crate::cli) fn kept_by_filter(
    id: &str,
    config: &PeerConfig,
    table: &TableName,
    families: &str,
) -> Obstacle {
    let what = format!(
        "peer {id} is not sent {table}, families {families}: its own filter keeps them, it is sent {}",
        sends(&config.filter)
    );
    let namespace = table.namespace();
    let fix = match &config.filter {
        Filter::AllBut(but) if but.namespaces.iter().any(|name| name == namespace) => format!(
            "hbase shell> remove_peer_exclude_namespaces '{id}', ['{namespace}']    (the other tables of that namespace come too)"
        ),
        Filter::AllBut(_) => format!("weir peer add --table {table} --widen"),
        Filter::Only(_) => format!(
            "weir peer add --table {table} --widen    (or hbase shell> append_peer_tableCFs '{id}', {{ \"{table}\" => [] }})"
        ),
    };
    obstacle(what, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_wire::cursor::put_bytes_field;
    use weir_wire::hbase::peer_config::{Names, TableFamilies};
    use weir_wire::hbase::schema::table_name;

    fn table(name: &str) -> TableName {
        TableName::new(name).unwrap()
    }

    fn schema(name: &str, families: &[(&str, bool)]) -> Schema {
        let mut message = Vec::new();
        put_bytes_field(&mut message, 1, &table_name(&table(name)));
        for (family, is_replicated) in families {
            let (mut inner, mut pair) = (Vec::new(), Vec::new());
            put_bytes_field(&mut inner, 1, family.as_bytes());
            put_bytes_field(&mut pair, 1, b"REPLICATION_SCOPE");
            put_bytes_field(&mut pair, 2, if *is_replicated { b"1" } else { b"0" });
            put_bytes_field(&mut inner, 2, &pair);
            put_bytes_field(&mut message, 3, &inner);
        }
        Schema::parse(&message).unwrap()
    }

    fn peer(filter: Filter, settings: &[(&str, &str)]) -> PeerConfig {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        PeerConfig { cluster_key: "zk:2181:/weir/weir".to_owned(), settings, filter, is_serial: false }
    }

    fn names(tables: &[&str], namespaces: &[&str]) -> Names {
        let one = |name: &&str| TableFamilies { table: table(name), families: vec![] };
        Names {
            tables: tables.iter().map(one).collect(),
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn everything() -> Filter {
        Filter::AllBut(Names::default())
    }

    fn settings(section: &str) -> Settings {
        let text = format!("[capture.main]\n{section}\n");
        let config = crate::config::load::text_of(&text, "x").unwrap();
        crate::capture::settings(&config.capture["main"]).unwrap()
    }

    #[test]
    fn a_table_that_does_not_come_is_named_with_what_keeps_it() {
        let check = |filter: Filter, section: &str, asked: &[&str], expect: &[&str]| {
            let schema = schema("shop:y", &[("f", true), ("g", asked != ["g"])]);
            let families: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
            let asked = Asked { schema: Some(&schema), table: &schema.table, families: &families };
            let found = of_table("weir", &peer(filter, &[]), ("main", &settings(section)), &asked);
            assert_eq!(found.len(), expect.len(), "{found:?}");
            for (one, words) in found.iter().zip(expect) {
                assert!(format!("{}; fix: {}", one.what, one.fix).contains(words), "{one:?}: {words}");
            }
        };
        check(everything(), "", &[], &[]);
        check(Filter::Only(names(&["shop:y"], &[])), "", &[], &[]);
        check(
            Filter::Only(names(&["x"], &[])),
            "",
            &[],
            &["only x; fix: weir peer add --table shop:y --widen"],
        );
        check(Filter::Only(names(&[], &[])), "", &["f"], &["not sent shop:y, families f"]);
        check(
            Filter::AllBut(names(&["shop:y"], &[])),
            "",
            &[],
            &["fix: weir peer add --table shop:y --widen"],
        );
        check(
            Filter::AllBut(names(&[], &["shop"])),
            "",
            &[],
            &["remove_peer_exclude_namespaces 'weir', ['shop']"],
        );
        check(everything(), "", &["g"], &["families g: REPLICATION_SCOPE is 0"]);
        check(everything(), "tables.include = [\"x\"]", &[], &["capture.main.tables leaves it out"]);
        check(everything(), "families = { \"shop:y\" = [\"f\"] }", &[], &[]);
        check(everything(), "families = { \"shop:y\" = [\"g\"] }", &["f"], &["capture.main.families leaves"]);
    }

    #[test]
    fn a_peer_that_ships_nothing_or_is_refused_is_named() {
        let check = |settings: &[(&str, &str)], is_enabled: bool, wish: &Wish, expect: &[&str]| {
            let found = of_peer("weir", &peer(everything(), settings), is_enabled, wish);
            assert_eq!(found.len(), expect.len(), "{found:?}");
            for (one, words) in found.iter().zip(expect) {
                assert!(format!("{}; fix: {}", one.what, one.fix).contains(words), "{one:?}: {words}");
            }
        };
        let nothing = Wish::default();
        check(&[], true, &nothing, &[]);
        check(&[], false, &nothing, &["disabled and ships nothing; fix: weir peer enable"]);
        check(&[(COMPRESSOR, "")], true, &nothing, &[]);
        check(&[(COMPRESSOR, "org.apache.hadoop.io.compress.GzipCodec")], true, &nothing, &[]);
        check(&[(COMPRESSOR, "x.Lz4Codec")], true, &nothing, &["fix: weir peer add --compressor none"]);
        check(&[(CODEC, "x.MessageCodec")], true, &nothing, &["--codec KeyValueCodecWithTags"]);
        check(&[("hbase.security.authentication", "Kerberos")], true, &nothing, &["\"simple\" }"]);
        check(&[("hbase.security.authentication", "simple")], true, &nothing, &[]);
        let serial = Wish { is_serial: Some(true), ..Wish::default() };
        check(&[], true, &serial, &["SERIAL of peer weir is false"]);
        let ratio = Wish { settings: vec![("a.b".to_owned(), "1.0".to_owned())], ..Wish::default() };
        check(&[("a.b", "0.5")], true, &ratio, &["a.b of peer weir is \"0.5\", not \"1.0\""]);
        let only = Wish { filter: Some(Filter::Only(names(&["x"], &[]))), ..Wish::default() };
        check(&[], true, &only, &["peer weir is sent all, not only x"]);
    }
}

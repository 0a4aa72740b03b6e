//! Configuration of a replication peer (`ReplicationPeer` of `Replication.proto`; 1.x: of `ZooKeeper.proto`).
//!
//! A changed configuration keeps every field that was not asked for as its bytes came, known or not.

use super::schema::{parse_table_name, table_name};
use crate::cursor::{Cursor, RawField, WireError, put_bytes_field, put_varint_field};
use weir_model::TableName;

const WHAT: &str = "replication peer";
const CLUSTER_KEY: u64 = 1;
const CONFIGURATION: u64 = 4;
const TABLES: u64 = 5;
const NAMESPACES: u64 = 6;
const REPLICATE_ALL: u64 = 8;
const TABLES_EXCLUDED: u64 = 9;
const NAMESPACES_EXCLUDED: u64 = 10;
const SERIAL: u64 = 11;

/// A table of a filter, with the families that are meant; none means all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableFamilies {
    /// The table.
    pub table: TableName,
    /// Its families.
    pub families: Vec<String>,
}

/// Tables and namespaces that a filter names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Tables.
    pub tables: Vec<TableFamilies>,
    /// Whole namespaces.
    pub namespaces: Vec<String>,
}

/// What a peer is sent of all that is replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Only these (`table_cfs`, `namespaces`).
    Only(Names),
    /// All but these (`exclude_table_cfs`, `exclude_namespaces`).
    AllBut(Names),
}

impl Filter {
    /// Whether two filters let the same through: HBase keeps sets and gives them back in any order.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }

    /// The filter that lets these families of a table through as well, and otherwise is the same. `all` are the
    /// table's families. `None` when its whole namespace is excluded: HBase cannot except a table from that.
    #[must_use]
    pub fn widened(&self, wanted: &TableFamilies, all: &[String]) -> Option<Self> {
        let namespace = wanted.table.namespace();
        let is_its = |one: &&mut TableFamilies| one.table == wanted.table;
        let mut filter = self.clone();
        match &mut filter {
            Self::Only(only) => {
                if only.namespaces.iter().any(|name| name == namespace) {
                    return Some(filter);
                }
                match only.tables.iter_mut().find(is_its) {
                    // None named: all of the table is sent.
                    Some(one) if one.families.is_empty() => {}
                    Some(one) if wanted.families.is_empty() => one.families.clear(),
                    Some(one) => {
                        let missing = wanted.families.iter().filter(|name| !one.families.contains(name));
                        let missing: Vec<String> = missing.cloned().collect();
                        one.families.extend(missing);
                    }
                    None => only.tables.push(wanted.clone()),
                }
            }
            Self::AllBut(but) => {
                if but.namespaces.iter().any(|name| name == namespace) {
                    return None;
                }
                if let Some(one) = but.tables.iter_mut().find(is_its) {
                    let kept_out = if one.families.is_empty() { all } else { &one.families };
                    let is_kept_out =
                        |name: &&String| !wanted.families.is_empty() && !wanted.families.contains(name);
                    one.families = kept_out.iter().filter(is_kept_out).cloned().collect();
                    if one.families.is_empty() {
                        but.tables.retain(|one| one.table != wanted.table);
                    }
                }
            }
        }
        Some(filter)
    }

    /// In one order, since HBase keeps sets and gives them back in any.
    fn sorted(&self) -> Self {
        let sorted = |names: &Names| {
            let mut names = names.clone();
            names.tables.iter_mut().for_each(|table| table.families.sort());
            names.tables.sort();
            names.namespaces.sort();
            names
        };
        match self {
            Self::Only(names) => Self::Only(sorted(names)),
            Self::AllBut(names) => Self::AllBut(sorted(names)),
        }
    }
}

/// A peer's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where it points to: `quorum:port:/znode`, or a connection URI.
    pub cluster_key: String,
    /// Settings that override the source's own.
    pub settings: Vec<(String, String)>,
    /// What it is sent.
    pub filter: Filter,
    /// Whether entries of a region come strictly in order (2.1 and later).
    pub is_serial: bool,
}

/// What a peer's configuration shall be; what is not asked for stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Where it points to.
    pub cluster_key: String,
    /// Settings that it has, beside others.
    pub settings: Vec<(String, String)>,
    /// What it is sent.
    pub filter: Option<Filter>,
    /// Whether it is serial.
    pub is_serial: Option<bool>,
}

impl PeerConfig {
    /// Reads the message.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let mut peer = Self {
            cluster_key: String::new(),
            settings: Vec::new(),
            filter: Filter::AllBut(Names::default()),
            is_serial: false,
        };
        let (mut only, mut but, mut is_all) = (Names::default(), Names::default(), None);
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.raw_field(WHAT)? {
            match field.number {
                CLUSTER_KEY => field.value.text(WHAT)?.clone_into(&mut peer.cluster_key),
                CONFIGURATION => peer.settings.push(setting(&field)?),
                TABLES => only.tables.push(table_families(field.value.bytes(WHAT)?)?),
                // 1.x has the bandwidth, a number, under this number.
                NAMESPACES => {
                    if let Ok(namespace) = field.value.text(WHAT) {
                        only.namespaces.push(namespace.to_owned());
                    }
                }
                REPLICATE_ALL => is_all = Some(field.value.varint(WHAT)? != 0),
                TABLES_EXCLUDED => but.tables.push(table_families(field.value.bytes(WHAT)?)?),
                NAMESPACES_EXCLUDED => but.namespaces.push(field.value.text(WHAT)?.to_owned()),
                SERIAL => peer.is_serial = field.value.varint(WHAT)? != 0,
                _ => {}
            }
        }
        let is_all = is_all.unwrap_or(only == Names::default());
        peer.filter = if is_all { Filter::AllBut(but) } else { Filter::Only(only) };
        Ok(peer)
    }

    /// A setting.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a replicated family reaches the peer (`ReplicationPeerConfig.needToReplicate`).
    #[must_use]
    pub fn ships(&self, table: &TableName, family: &str) -> bool {
        let names = |names: &Names| {
            names.namespaces.iter().any(|name| name == table.namespace())
                || names.tables.iter().any(|one| {
                    one.table == *table
                        && (one.families.is_empty() || one.families.iter().any(|name| name == family))
                })
        };
        match &self.filter {
            Filter::Only(only) => names(only),
            Filter::AllBut(but) => !names(but),
        }
    }
}

/// The message with a wish fulfilled; the very same bytes when it is so already. An empty message makes a new peer.
///
/// # Errors
/// When the message does not parse.
pub fn fulfil(message: &[u8], wish: &Wish) -> Result<Vec<u8>, WireError> {
    let now = PeerConfig::parse(message)?;
    let is_other = |filter: &&Filter| message.is_empty() || !now.filter.is_same(filter);
    let filter = wish.filter.as_ref().filter(is_other);
    let is_serial = wish.is_serial.filter(|wanted| now.is_serial != *wanted);
    let mut out = Vec::with_capacity(message.len() + 128);
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.raw_field(WHAT)? {
        let is_filter =
            [TABLES, NAMESPACES, REPLICATE_ALL, TABLES_EXCLUDED, NAMESPACES_EXCLUDED].contains(&field.number);
        let is_replaced = match field.number {
            CLUSTER_KEY => !wish.cluster_key.is_empty() && now.cluster_key != wish.cluster_key,
            CONFIGURATION => {
                let (name, value) = setting(&field)?;
                wish.settings.iter().any(|(wanted, to)| *wanted == name && *to != value)
            }
            SERIAL => is_serial.is_some(),
            _ => is_filter && filter.is_some(),
        };
        if !is_replaced {
            out.extend_from_slice(field.raw);
        }
    }
    if !wish.cluster_key.is_empty() && now.cluster_key != wish.cluster_key {
        put_bytes_field(&mut out, CLUSTER_KEY, wish.cluster_key.as_bytes());
    }
    for (name, value) in &wish.settings {
        if now.setting(name) != Some(value.as_str()) {
            let mut pair = Vec::new();
            put_bytes_field(&mut pair, 1, name.as_bytes());
            put_bytes_field(&mut pair, 2, value.as_bytes());
            put_bytes_field(&mut out, CONFIGURATION, &pair);
        }
    }
    if let Some(filter) = filter {
        put_filter(&mut out, filter);
    }
    if let Some(is_serial) = is_serial {
        put_varint_field(&mut out, SERIAL, u64::from(is_serial));
    }
    Ok(out)
}

fn put_filter(out: &mut Vec<u8>, filter: &Filter) {
    let (names, tables, namespaces, is_all) = match filter {
        Filter::Only(names) => (names, TABLES, NAMESPACES, 0),
        Filter::AllBut(names) => (names, TABLES_EXCLUDED, NAMESPACES_EXCLUDED, 1),
    };
    for one in &names.tables {
        let mut message = Vec::new();
        put_bytes_field(&mut message, 1, &table_name(&one.table));
        one.families.iter().for_each(|family| put_bytes_field(&mut message, 2, family.as_bytes()));
        put_bytes_field(out, tables, &message);
    }
    names.namespaces.iter().for_each(|name| put_bytes_field(out, namespaces, name.as_bytes()));
    put_varint_field(out, REPLICATE_ALL, is_all);
}

fn setting(field: &RawField<'_>) -> Result<(String, String), WireError> {
    let (mut name, mut value) = (String::new(), String::new());
    let mut cursor = Cursor::new(field.value.bytes(WHAT)?);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => field.text(WHAT)?.clone_into(&mut name),
            2 => field.text(WHAT)?.clone_into(&mut value),
            _ => {}
        }
    }
    Ok((name, value))
}

fn table_families(message: &[u8]) -> Result<TableFamilies, WireError> {
    let (mut table, mut families) = (None, Vec::new());
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => table = Some(parse_table_name(field.bytes(WHAT)?)?),
            2 => families.push(field.text(WHAT)?.to_owned()),
            _ => {}
        }
    }
    Ok(TableFamilies { table: table.ok_or(WireError::Missing { what: "table of a peer" })?, families })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            cluster_key: "zk:2181:/weir/weir".to_owned(),
            settings: vec![("replication.source.ratio".to_owned(), "1.0".to_owned())],
            ..Wish::default()
        }
    }

    fn names(tables: &[(&str, &[&str])], namespaces: &[&str]) -> Names {
        let table = |(name, families): &(&str, &[&str])| TableFamilies {
            table: TableName::new(name).unwrap(),
            families: families.iter().map(|name| (*name).to_owned()).collect(),
        };
        Names {
            tables: tables.iter().map(table).collect(),
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_new_peer_is_what_was_wished_for() {
        let filter = Filter::Only(names(&[("shop:orders", &["f", "g"]), ("t", &[])], &["log"]));
        let all = Wish { filter: Some(filter.clone()), is_serial: Some(true), ..wish() };
        let message = fulfil(&[], &all).unwrap();
        let got = PeerConfig::parse(&message).unwrap();
        assert_eq!((got.cluster_key.as_str(), got.is_serial), ("zk:2181:/weir/weir", true));
        assert_eq!((got.setting("replication.source.ratio"), &got.filter), (Some("1.0"), &filter));
        let plain = PeerConfig::parse(&fulfil(&[], &wish()).unwrap()).unwrap();
        assert_eq!((plain.filter, plain.is_serial), (Filter::AllBut(Names::default()), false));
        assert_eq!(fulfil(&message, &all).unwrap(), message, "a wish that is fulfilled changes nothing");
        assert_eq!(fulfil(&message, &wish()).unwrap(), message, "what is not asked for stays");
        let turned = Filter::Only(names(&[("t", &[]), ("shop:orders", &["g", "f"])], &["log"]));
        let turned = Wish { filter: Some(turned), ..wish() };
        assert_eq!(fulfil(&message, &turned).unwrap(), message, "order does not matter");
    }

    #[test]
    fn a_change_keeps_what_it_does_not_know() {
        let mut message = fulfil(&[], &wish()).unwrap();
        let mut other = Vec::new();
        put_bytes_field(&mut other, 1, b"hbase.rpc.timeout");
        put_bytes_field(&mut other, 2, b"7000");
        put_bytes_field(&mut message, CONFIGURATION, &other);
        put_varint_field(&mut message, 7, 1024);
        put_bytes_field(&mut message, 55, b"of a later version");
        let mut wanted = wish();
        wanted.settings = vec![("replication.source.ratio".to_owned(), "0.5".to_owned())];
        wanted.filter = Some(Filter::AllBut(names(&[], &["log"])));
        let after = fulfil(&message, &wanted).unwrap();
        let got = PeerConfig::parse(&after).unwrap();
        assert_eq!(got.setting("replication.source.ratio"), Some("0.5"));
        assert_eq!(got.setting("hbase.rpc.timeout"), Some("7000"));
        assert_eq!(Some(&got.filter), wanted.filter.as_ref());
        let kept = |bytes: &[u8]| after.windows(bytes.len()).any(|window| window == bytes);
        assert!(kept(b"of a later version") && kept(&[7 << 3, 0x80, 8]));
        assert_eq!(got.settings.len(), 2);
    }

    #[test]
    fn a_filter_says_what_is_shipped() {
        let peer = |filter: Filter| {
            let wish = Wish { filter: Some(filter), ..wish() };
            PeerConfig::parse(&fulfil(&[], &wish).unwrap()).unwrap()
        };
        let table = |name: &str| TableName::new(name).unwrap();
        let only = peer(Filter::Only(names(&[("t", &["f"])], &["shop"])));
        assert!(only.ships(&table("t"), "f") && !only.ships(&table("t"), "g"));
        assert!(only.ships(&table("shop:x"), "g") && !only.ships(&table("u"), "f"));
        let but = peer(Filter::AllBut(names(&[("t", &["f"])], &["shop"])));
        assert!(!but.ships(&table("t"), "f") && but.ships(&table("t"), "g"));
        assert!(!but.ships(&table("shop:x"), "g") && but.ships(&table("u"), "f"));
    }

    #[test]
    fn a_widened_filter_lets_the_table_through_and_nothing_else() {
        let all = ["f".to_owned(), "g".to_owned()];
        let check = |before: Filter, table: &str, families: &[&str], after: Option<Filter>| {
            let wanted = names(&[(table, families)], &[]).tables.remove(0);
            assert_eq!(before.widened(&wanted, &all), after, "{before:?} {table} {families:?}");
        };
        let only = |tables: &[(&str, &[&str])], spaces: &[&str]| Filter::Only(names(tables, spaces));
        let but = |tables: &[(&str, &[&str])], spaces: &[&str]| Filter::AllBut(names(tables, spaces));
        check(only(&[("x", &[])], &[]), "y", &[], Some(only(&[("x", &[]), ("y", &[])], &[])));
        check(only(&[("y", &["f"])], &[]), "y", &["g"], Some(only(&[("y", &["f", "g"])], &[])));
        check(only(&[("y", &["f"])], &[]), "y", &[], Some(only(&[("y", &[])], &[])));
        check(only(&[("y", &[])], &[]), "y", &["f"], Some(only(&[("y", &[])], &[])));
        check(only(&[], &["shop"]), "shop:y", &[], Some(only(&[], &["shop"])));
        check(only(&[], &[]), "y", &["f"], Some(only(&[("y", &["f"])], &[])));
        check(but(&[("y", &[]), ("x", &[])], &[]), "y", &[], Some(but(&[("x", &[])], &[])));
        check(but(&[("y", &[])], &[]), "y", &["f"], Some(but(&[("y", &["g"])], &[])));
        check(but(&[("y", &["f"])], &[]), "y", &["f"], Some(but(&[], &[])));
        check(but(&[("y", &["f"])], &["log"]), "y", &["g"], Some(but(&[("y", &["f"])], &["log"])));
        check(but(&[], &["shop"]), "shop:y", &[], None);
    }

    #[test]
    fn a_bandwidth_of_1_x_is_no_namespace() {
        let mut message = Vec::new();
        put_bytes_field(&mut message, CLUSTER_KEY, b"zk:2181:/w");
        put_varint_field(&mut message, NAMESPACES, 1024);
        let got = PeerConfig::parse(&message).unwrap();
        assert_eq!(got.filter, Filter::AllBut(Names::default()));
    }
}

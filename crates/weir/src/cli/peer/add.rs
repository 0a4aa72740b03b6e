//! `weir peer add`: the peer and the scopes of its tables, made right whatever they are now.

use super::plan::{Plan, ScopeStep, Stand, by_shell, peer_step};
use super::verdict;
use crate::config::{Capture, load};
use crate::exit::Exit;
use weir_hbase::master::Master;
use weir_hbase::peers::{self, Peer};
use weir_model::{Fault, FaultKind, TableName};
use weir_wire::hbase::cell_block;
use weir_wire::hbase::cluster_key::ClusterKey;
use weir_wire::hbase::load::ClusterStatus;
use weir_wire::hbase::peer_config::{Filter, Names, PeerConfig, TableFamilies, Wish};
use weir_wire::hbase::schema::Schema;

/// Setting of a peer that says which part of its sinks a source uses: all virtual servers, or calls stand in line.
pub(in crate::cli) const RATIO: &str = "replication.source.ratio";
/// Setting of a peer that says how cells are written.
pub(in crate::cli) const CODEC: &str = "hbase.replication.rpc.codec";
/// Setting of a peer that says how cell blocks are compressed.
pub(in crate::cli) const COMPRESSOR: &str = "hbase.client.rpc.compressor";

#[derive(clap::Args)]
pub(super) struct Add {
    /// Turn replication on for these families of a table (REPLICATION_SCOPE => 1); without families, for all.
    /// May be given more than once. The peer is sent every replicated table, this one or not: see --only-table.
    #[arg(long, value_name = "TABLE[:FAMILY,..]")]
    table: Vec<String>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// How sources write cells. The source's own default keeps tags; KeyValueCodec drops them.
    #[arg(long, value_enum, value_name = "CODEC")]
    codec: Option<Codec>,
    /// Compress the calls of this peer: less network, more CPU at both ends. SnappyCodec needs its library at the
    /// source; `none` takes a compressor away.
    #[arg(long, value_enum, value_name = "COMPRESSOR")]
    compressor: Option<Compressor>,
    /// Widen the peer's filter so that it lets each --table through; without it, a table that the filter keeps is
    /// named, and the exit code is 1.
    #[arg(long, requires = "table", conflicts_with_all = ["only_table", "only_namespace", "except_table", "except_namespace"])]
    widen: bool,
    /// Keep strict order per region over moves and crashes, at the price of waiting (HBase 2.1 and later).
    #[arg(long)]
    serial: bool,
    /// Send only these tables, or families of them (the peer's TABLE_CFS).
    #[arg(long, value_name = "TABLE[:FAMILY,..]", conflicts_with_all = ["except_table", "except_namespace"])]
    only_table: Vec<String>,
    /// Send only tables of this namespace (the peer's NAMESPACES; HBase 2.x).
    #[arg(long, value_name = "NAMESPACE", conflicts_with_all = ["except_table", "except_namespace"])]
    only_namespace: Vec<String>,
    /// Send all but these tables, or families of them (the peer's EXCLUDE_TABLE_CFS; HBase 2.x).
    #[arg(long, value_name = "TABLE[:FAMILY,..]")]
    except_table: Vec<String>,
    /// Send all but the tables of this namespace (the peer's EXCLUDE_NAMESPACES; HBase 2.x).
    #[arg(long, value_name = "NAMESPACE")]
    except_namespace: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Codec {
    #[value(name = "KeyValueCodecWithTags")]
    Tagged,
    #[value(name = "KeyValueCodec")]
    Plain,
    #[value(name = "CellCodecWithTags")]
    PartsTagged,
    #[value(name = "CellCodec")]
    PartsPlain,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Compressor {
    #[value(name = "DefaultCodec")]
    Zlib,
    #[value(name = "SnappyCodec")]
    Snappy,
    #[value(name = "GzipCodec")]
    Gzip,
    #[value(name = "none")]
    None,
}

impl Codec {
    const fn class(self) -> &'static str {
        match self {
            Self::Tagged => cell_block::Codec::KeyValueWithTags.class(),
            Self::Plain => cell_block::Codec::KeyValue.class(),
            Self::PartsTagged => cell_block::Codec::CellWithTags.class(),
            Self::PartsPlain => cell_block::Codec::Cell.class(),
        }
    }
}

impl Compressor {
    /// HBase cannot take a setting of a peer away. An empty one means none, also over that of `hbase-site.xml`
    /// (`AbstractRpcClient.getCompressor`).
    const fn class(self) -> &'static str {
        match self {
            Self::Zlib => cell_block::Compressor::Zlib.class(),
            Self::Snappy => cell_block::Compressor::Snappy.class(),
            Self::Gzip => cell_block::Compressor::Gzip.class(),
            Self::None => "",
        }
    }
}

/// Where the source finds the fake cluster.
pub(in crate::cli) fn cluster_key(section: &Capture) -> ClusterKey {
    ClusterKey::new(section.peer_zookeeper(), &section.base_znode())
}

/// What every peer of ours has.
pub(in crate::cli) fn plain_wish(section: &Capture) -> Wish {
    Wish {
        cluster_key: cluster_key(section).to_string(),
        settings: vec![(RATIO.to_owned(), "1.0".to_owned())],
        ..Wish::default()
    }
}

/// Major and minor number of a version such as `2.6.4-hadoop3`.
pub(in crate::cli) fn version(status: &ClusterStatus) -> (u32, u32) {
    let mut numbers = status.version.split(['.', '-']).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn wrong(about: &str, cause: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Config, load::CODE, "understand the command line", about).caused_by(cause.into())
}

pub(super) async fn run(
    client: &zookeeper_client::Client,
    (name, section): (&str, &Capture),
    arguments: &Add,
) -> Result<Exit, Fault> {
    let (parent, id) = (section.znode_parent.as_str(), section.peer.as_str());
    let settings = crate::capture::settings(section)?;
    if !super::is_served(name, section).await? {
        eprintln!("weir: nothing is registered at {} yet: start `weir run` first", section.base_znode());
        if !arguments.dry_run {
            return Ok(Exit::Found);
        }
    }
    let mut master = Master::connect(client, parent).await?;
    let status = master.status().await?;
    let version = version(&status);
    let schemas = master.tables(&[]).await?;
    let peer = read_peer(client, section).await?;
    let wish = arguments.wish(section, version, &schemas, peer.as_ref().map(|peer| &peer.config))?;
    let plan = Plan { peer: peer_step(section, peer.as_ref(), &wish)?, scopes: arguments.scopes(&schemas)? };
    let is_acting = version.0 >= 2 && !arguments.dry_run;
    if is_acting {
        plan.carry_out(&mut master, id).await?;
    }
    let (after, schemas) = if is_acting {
        let names: Vec<TableName> = plan.scopes.iter().map(|step| step.schema.table.clone()).collect();
        let schemas = if names.is_empty() { Vec::new() } else { master.tables(&names).await? };
        (read_peer(client, section).await?, schemas)
    } else {
        let after = plan.peer_after(id, peer.as_ref())?;
        (Some(after), plan.scopes.iter().map(|step| step.schema.clone()).collect())
    };
    let Some(after) = after else {
        let cause = "it was there, and is not there any more: somebody has removed it";
        return Err(Fault::new(FaultKind::Config, "W-HBASE-MASTER", "add the peer", id).caused_by(cause));
    };
    let stand = Stand::look(
        (name, &settings),
        &after,
        &schemas,
        &plan,
        &wish,
        peer.as_ref().map(|peer| &peer.config),
    );
    Ok(match (version.0 < 2, arguments.dry_run) {
        (true, _) => by_shell(id, &plan, peer.as_ref(), &wish, &stand),
        (false, true) => {
            plan.show(id, &wish);
            stand.say_obstacles()
        }
        (false, false) => stand.say(id, &plan),
    })
}

async fn read_peer(client: &zookeeper_client::Client, section: &Capture) -> Result<Option<Peer>, Fault> {
    let peers = peers::list(client, &section.znode_parent).await?;
    Ok(peers.into_iter().find(|peer| peer.id == section.peer))
}

/// A filter in words.
pub(super) fn sends(filter: &Filter) -> String {
    match filter {
        Filter::AllBut(names) if *names == Names::default() => "all".to_owned(),
        Filter::AllBut(names) => format!("all but {}", list(names)),
        Filter::Only(names) if *names == Names::default() => "nothing".to_owned(),
        Filter::Only(names) => format!("only {}", list(names)),
    }
}

fn list(names: &Names) -> String {
    let table = |one: &TableFamilies| match one.families.as_slice() {
        [] => one.table.to_string(),
        families => format!("{}:{}", one.table, families.join(",")),
    };
    let namespaces = names.namespaces.iter().map(|name| format!("namespace {name}"));
    names.tables.iter().map(table).chain(namespaces).collect::<Vec<_>>().join(", ")
}

impl Add {
    fn wish(
        &self,
        section: &Capture,
        version: (u32, u32),
        schemas: &[Schema],
        now: Option<&PeerConfig>,
    ) -> Result<Wish, Fault> {
        let mut wish = plain_wish(section);
        if let Some(codec) = self.codec {
            wish.settings.push((CODEC.to_owned(), codec.class().to_owned()));
        }
        if let Some(compressor) = self.compressor {
            wish.settings.push((COMPRESSOR.to_owned(), compressor.class().to_owned()));
        }
        let tables = |words: &[String]| {
            let tables = words.iter().map(|word| resolve(word, schemas));
            tables.map(|table| table.map(|(_, table)| table)).collect::<Result<Vec<_>, Fault>>()
        };
        if !self.only_table.is_empty() || !self.only_namespace.is_empty() {
            let names = Names { tables: tables(&self.only_table)?, namespaces: self.only_namespace.clone() };
            wish.filter = Some(Filter::Only(names));
        }
        if !self.except_table.is_empty() || !self.except_namespace.is_empty() {
            let names =
                Names { tables: tables(&self.except_table)?, namespaces: self.except_namespace.clone() };
            wish.filter = Some(Filter::AllBut(names));
        }
        if let Some(now) = now.filter(|_| self.widen) {
            wish.filter = self.widened(&section.peer, now, schemas)?;
        }
        wish.is_serial = self.serial.then_some(true);
        if self.serial && version < (2, 1) {
            return Err(wrong("--serial", "this HBase has no serial peers; they came with 2.1"));
        }
        let is_new_filter = !self.only_namespace.is_empty() || matches!(wish.filter, Some(Filter::AllBut(_)));
        if is_new_filter && version < (2, 0) {
            let cause = "this HBase knows only --only-table; namespaces and exceptions came with 2.0";
            return Err(wrong("the filter", cause));
        }
        Ok(wish)
    }

    /// The filter of the peer, widened for each table that was asked for; `None` when it lets them through already.
    fn widened(&self, id: &str, now: &PeerConfig, schemas: &[Schema]) -> Result<Option<Filter>, Fault> {
        let mut filter = now.filter.clone();
        for word in &self.table {
            let (schema, wanted) = resolve(word, schemas)?;
            let all: Vec<String> = schema
                .families
                .iter()
                .map(|family| String::from_utf8_lossy(&family.name).into_owned())
                .collect();
            filter = filter.widened(&wanted, &all).ok_or_else(|| {
                let kept = verdict::kept_by_filter(id, now, &schema.table, &all.join(", "));
                wrong("--widen", format!("{}\n      fix: {}", kept.what, kept.fix))
            })?;
        }
        Ok((!filter.is_same(&now.filter)).then_some(filter))
    }

    fn scopes(&self, schemas: &[Schema]) -> Result<Vec<ScopeStep>, Fault> {
        self.table.iter().map(|word| scope_step(word, schemas)).collect()
    }
}

/// The families of one `--table` that are not replicated yet, and the descriptor that makes them so.
fn scope_step(word: &str, schemas: &[Schema]) -> Result<ScopeStep, Fault> {
    let (schema, wanted) = resolve(word, schemas)?;
    let is_wanted = |name: &[u8]| {
        wanted.families.is_empty() || wanted.families.iter().any(|family| family.as_bytes() == name)
    };
    let names: Vec<&[u8]> = schema
        .families
        .iter()
        .filter(|family| family.scope == 0 && is_wanted(&family.name))
        .map(|family| family.name.as_slice())
        .collect();
    let families = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let schema = schema.with_scope(&names).map_err(|error| {
        Fault::new(FaultKind::Corrupt, "W-HBASE-MASTER", "change a table descriptor", word).caused_by(error)
    })?;
    Ok(ScopeStep { wanted: wanted.families, families, schema })
}

/// Finds the table and the families that `TABLE[:FAMILY,..]` means. `a:b` is the table `b` of namespace `a`, or else
/// the family `b` of table `a`, whichever the source has.
fn resolve<'a>(word: &str, schemas: &'a [Schema]) -> Result<(&'a Schema, TableFamilies), Fault> {
    let whole = (word, "");
    let cut = word.rsplit_once(':');
    let readings: Vec<_> = std::iter::once(whole)
        .chain(cut)
        .filter_map(|(table, families)| {
            let table = TableName::new(table).ok()?;
            Some((schemas.iter().find(|schema| schema.table == table)?, families))
        })
        .collect();
    let (schema, families) = match readings.as_slice() {
        [] => return Err(wrong(word, "the source has no such table")),
        [one] => *one,
        _ => {
            let cause = "it is a table of that namespace and a family of that table; write default:TABLE:FAMILY or NAMESPACE:TABLE:FAMILY";
            return Err(wrong(word, cause));
        }
    };
    let families: Vec<String> =
        families.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect();
    if let Some(missing) = families.iter().find(|name| schema.family(name.as_bytes()).is_none()) {
        let there: Vec<_> =
            schema.families.iter().map(|family| String::from_utf8_lossy(&family.name).into_owned()).collect();
        let cause = format!("{} has no family {missing:?}; it has {}", schema.table, there.join(", "));
        return Err(wrong(word, cause));
    }
    Ok((schema, TableFamilies { table: schema.table.clone(), families }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_wire::cursor::put_bytes_field;
    use weir_wire::hbase::schema::table_name;

    fn schema(name: &str, families: &[&str]) -> Schema {
        let mut message = Vec::new();
        put_bytes_field(&mut message, 1, &table_name(&TableName::new(name).unwrap()));
        for family in families {
            let mut inner = Vec::new();
            put_bytes_field(&mut inner, 1, family.as_bytes());
            put_bytes_field(&mut message, 3, &inner);
        }
        Schema::parse(&message).unwrap()
    }

    #[test]
    fn a_word_means_the_table_or_the_family_that_the_source_has() {
        let schemas = [
            schema("t", &["f", "g"]),
            schema("shop:orders", &["f"]),
            schema("both", &["x"]),
            schema("both:x", &["f"]),
        ];
        let check =
            |word: &str, expect: Result<(&str, &[&str]), &str>| match (resolve(word, &schemas), expect) {
                (Ok((_, got)), Ok((table, families))) => {
                    assert_eq!(
                        (got.table.as_str(), got.families),
                        (table, families.iter().map(|name| (*name).to_owned()).collect()),
                        "{word}"
                    );
                }
                (Err(fault), Err(words)) => assert!(fault.chain().contains(words), "{}", fault.chain()),
                (got, _) => panic!("{word}: {:?}", got.map(|(_, got)| got)),
            };
        check("t", Ok(("t", &[])));
        check("t:f", Ok(("t", &["f"])));
        check("t:g,f", Ok(("t", &["g", "f"])));
        check("default:t:f", Ok(("t", &["f"])));
        check("shop:orders", Ok(("shop:orders", &[])));
        check("shop:orders:f", Ok(("shop:orders", &["f"])));
        check("t:x", Err("has no family \"x\"; it has f, g"));
        check("u", Err("no such table"));
        check("both:x", Err("default:TABLE:FAMILY"));
        check("both:x:f", Ok(("both:x", &["f"])));
        check("default:both:x", Ok(("both", &["x"])));
    }

    #[test]
    fn a_version_is_read_from_its_text() {
        let check = |text: &str, expect: (u32, u32)| {
            assert_eq!(version(&ClusterStatus { version: text.to_owned(), servers: vec![] }), expect);
        };
        check("2.6.4-hadoop3", (2, 6));
        check("1.7.2", (1, 7));
        check("3.0.0-alpha-4", (3, 0));
        check("", (0, 0));
    }
}

//! Tables whose writes are in no WAL. Replication reads nothing but the WAL, so nothing of them ever comes.

use super::Finding;
use weir_model::TableName;

/// The finding about a replicated table whose descriptor says `DURABILITY => SKIP_WAL`.
///
/// The descriptor is the default of its mutations: one that asks for more is written to the WAL and comes. One that
/// asks for SKIP_WAL by itself never comes, whatever the descriptor says, and nobody can see that from outside.
#[must_use]
pub fn skips_wal(table: &TableName) -> Finding {
    Finding::warning(
        format!(
            "table {table} has DURABILITY => SKIP_WAL: its writes are in no WAL, so they are never replicated, though \
             REPLICATION_SCOPE is 1"
        ),
        format!(
            "hbase shell> alter '{table}', DURABILITY => 'USE_DEFAULT'    (or leave it out with tables.exclude)"
        ),
    )
}

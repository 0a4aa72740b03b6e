//! A client of HBase 0.96 to 3.0: reads and writes the rows of tables, without a JVM.
//!
//! ```no_run
//! use weir_hbase::client::{Cluster, Get, Put, Scan};
//!
//! # async fn example() -> Result<(), weir_hbase::client::Error> {
//! let cluster = Cluster::connect("zk-1:2181,zk-2:2181,zk-3:2181").await?;
//! let table = cluster.table("shop:orders")?;
//! table.put(Put::new("order-1").add("f", "state", "open")).await?;
//! let row = table.get(Get::new("order-1")).await?;
//! assert_eq!(row.value(b"f", b"state"), Some(&b"open"[..]));
//! let mut rows = table.scan(Scan::new().row_prefix("order-").limit(100));
//! while let Some(row) = rows.next().await? {
//!     println!("{:?}", row.key());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Every operation ends by its deadline ([`Options::operation_timeout`]). What may pass by itself (a region that moves or
//! splits, a busy or restarting server, a lost connection) is retried until then; see [`retry`] for the whole table.
//! A row is only sent to a region whose range holds it.
//!
//! Not yet: Kerberos and TLS, the registry by RPC of 3.0, administration, HBase 0.94.

mod batch;
mod cluster;
mod error;
mod locate;
mod region_cache;
mod registry;
pub mod retry;
mod scanner;
mod table;

pub use cluster::{Cluster, Options};
pub use error::Error;
pub use locate::Location;
pub use scanner::Scanner;
pub use table::Table;
pub use weir_wire::hbase::cell_block::{Cell, CellKind};
pub use weir_wire::hbase::client::{
    Action, Append, Check, Compare, Delete, Durability, Filter, Get, Increment, LATEST_TIMESTAMP, Mutation,
    Put, RegionInfo, Row, RowMutations, Scan,
};
pub use weir_wire::hbase::zk::ServerName;

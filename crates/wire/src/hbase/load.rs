//! What a master knows of its region servers' replication (`ClusterStatus.proto`: `ServerLoad.replLoadSource`).
//!
//! Figures are passed on as they come; what each line of HBase means by them is in `docs/peer.md`.

use super::zk::ServerName;
use crate::cursor::{Cursor, WireError, put_varint_field};

/// Method that asks for it.
pub const METHOD: &str = "GetClusterStatus";

const WHAT: &str = "cluster status";

/// The answer, as far as it is about replication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Version of the master, such as `2.6.4`.
    pub version: String,
    /// Live region servers.
    pub servers: Vec<ServerLoad>,
}

/// What one region server has reported, by its own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLoad {
    /// The region server.
    pub server: ServerName,
    /// When it made the report, ms since 1970; it makes one every three seconds (`hbase.regionserver.msginterval`).
    pub reported_at_ms: u64,
    /// Its sources: on 2.x one per queue, on 1.x one per peer with all its queues put together.
    pub sources: Vec<SourceLoad>,
}

/// One `ReplicationLoadSource`. Fields that are `None` are not there before 2.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceLoad {
    /// Peer.
    pub peer: String,
    /// Age of the last shipped entry when it was shipped.
    pub age_of_last_shipped_ms: i64,
    /// WAL files in the queue, the open one too.
    pub log_queue: u64,
    /// Write time of the last shipped entry; 0 when none was shipped since the server's start.
    pub last_shipped_at_ms: u64,
    /// The lag that HBase makes of it.
    pub lag_ms: i64,
    /// Write time of the entry that is shipped next, or was shipped last when none waits.
    pub next_at_ms: Option<u64>,
    /// Name of the queue.
    pub queue: Option<String>,
    /// Whether the source's thread lives.
    pub is_running: Option<bool>,
    /// Entries read since the server's start.
    pub edits_read: Option<u64>,
    /// Operations shipped since the server's start.
    pub operations_shipped: Option<u64>,
}

/// Parameter of [`METHOD`]: version and live servers. 1.x has no options and answers all.
#[must_use]
pub fn request() -> Vec<u8> {
    const HBASE_VERSION: u64 = 0;
    const LIVE_SERVERS: u64 = 2;
    let mut out = Vec::new();
    put_varint_field(&mut out, 1, HBASE_VERSION);
    put_varint_field(&mut out, 1, LIVE_SERVERS);
    out
}

/// Reads `GetClusterStatusResponse`.
///
/// # Errors
/// When it does not parse.
pub fn parse(message: &[u8]) -> Result<ClusterStatus, WireError> {
    let mut status = ClusterStatus::default();
    let mut answer = Cursor::new(message);
    while let Some((number, field)) = answer.field(WHAT)? {
        if number != 1 {
            continue;
        }
        let mut cursor = Cursor::new(field.bytes(WHAT)?);
        while let Some((number, field)) = cursor.field(WHAT)? {
            match number {
                1 => status.version = version(field.bytes(WHAT)?)?,
                2 => status.servers.push(live_server(field.bytes(WHAT)?)?),
                _ => {}
            }
        }
    }
    Ok(status)
}

fn version(message: &[u8]) -> Result<String, WireError> {
    let mut cursor = Cursor::new(message);
    let mut version = String::new();
    while let Some((number, field)) = cursor.field(WHAT)? {
        if number == 1 {
            field.text(WHAT)?.clone_into(&mut version);
        }
    }
    Ok(version)
}

fn live_server(message: &[u8]) -> Result<ServerLoad, WireError> {
    let (mut server, mut reported_at_ms, mut sources) = (None, 0, Vec::new());
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => server = Some(ServerName::parse_message(field.bytes(WHAT)?)?),
            2 => {
                let mut load = Cursor::new(field.bytes(WHAT)?);
                while let Some((number, field)) = load.field(WHAT)? {
                    match number {
                        8 => reported_at_ms = field.varint(WHAT)?,
                        10 => sources.push(source(field.bytes(WHAT)?)?),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let server = server.ok_or(WireError::Missing { what: "server of a load" })?;
    Ok(ServerLoad { server, reported_at_ms, sources })
}

fn source(message: &[u8]) -> Result<SourceLoad, WireError> {
    const WHAT: &str = "replication load";
    let mut load = SourceLoad::default();
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => field.text(WHAT)?.clone_into(&mut load.peer),
            2 => load.age_of_last_shipped_ms = field.varint(WHAT)?.cast_signed(),
            3 => load.log_queue = field.varint(WHAT)?,
            4 => load.last_shipped_at_ms = field.varint(WHAT)?,
            5 => load.lag_ms = field.varint(WHAT)?.cast_signed(),
            6 => load.next_at_ms = Some(field.varint(WHAT)?),
            7 => load.queue = Some(field.text(WHAT)?.to_owned()),
            9 => load.is_running = Some(field.varint(WHAT)? != 0),
            11 => load.edits_read = Some(field.varint(WHAT)?),
            12 => load.operations_shipped = Some(field.varint(WHAT)?),
            _ => {}
        }
    }
    Ok(load)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::put_bytes_field;

    fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        fields.iter().for_each(|(number, bytes)| put_bytes_field(&mut out, *number, bytes));
        out
    }

    #[test]
    fn the_load_of_each_queue_is_read_and_the_rest_is_passed_over() {
        let server = ServerName { host: "rs".to_owned(), port: 1, start_code: 2 };
        let mut source = message(&[(1, b"weir"), (7, b"weir-dead,1,2")]);
        for (number, value) in [(2, 30), (3, 4), (4, 1000), (5, u64::MAX), (8, 1), (9, 0), (12, 7)] {
            put_varint_field(&mut source, number, value);
        }
        let mut load = message(&[(5, b"a region"), (10, &source)]);
        put_varint_field(&mut load, 8, 2000);
        let live = message(&[(1, &server.encode_message()), (2, &load)]);
        let status = message(&[(1, &message(&[(1, b"2.6.4")])), (2, &live), (3, b"a dead server")]);
        let expect = SourceLoad {
            peer: "weir".to_owned(),
            queue: Some("weir-dead,1,2".to_owned()),
            age_of_last_shipped_ms: 30,
            log_queue: 4,
            last_shipped_at_ms: 1000,
            lag_ms: -1,
            is_running: Some(false),
            operations_shipped: Some(7),
            ..SourceLoad::default()
        };
        let got = parse(&message(&[(1, &status)])).unwrap();
        assert_eq!(got.version, "2.6.4");
        assert_eq!(got.servers, [ServerLoad { server, reported_at_ms: 2000, sources: vec![expect] }]);
    }
}

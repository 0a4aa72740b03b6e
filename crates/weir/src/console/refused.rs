//! Machines that the replication server refuses, in the words of an operator: who, why, and the fix.

use super::picture::Level;
use serde::Serialize;
use weir_hbase::replication::{Refusal, Refused};
use weir_wire::hbase::cell_block::{Codec, Compressor};

/// How long after its last try a machine counts as refused: a source waits up to five minutes between two tries
/// (`replication.source.sleepforretries` times `maxretriesmultiplier`).
const PRESENT_MS: u64 = 900_000;

/// One machine that is refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RefusedPicture {
    pub(super) server: String,
    pub(super) reason: String,
    pub(super) fix: String,
    pub(super) count: u64,
    pub(super) last_ms: u64,
    #[serde(skip)]
    pub(super) level: Level,
}

/// What is refused now, newest first. `capture` is the name of the section.
pub(super) fn present(capture: &str, refusals: &[Refusal], now_ms: u64) -> Vec<RefusedPicture> {
    let mut found: Vec<RefusedPicture> = refusals
        .iter()
        .filter(|one| now_ms < one.last_ms + PRESENT_MS)
        .map(|one| {
            let (level, reason, fix) = words(capture, one.why, &one.detail);
            let server = one.address.to_string();
            RefusedPicture { server, reason, fix, count: one.count, last_ms: one.last_ms, level }
        })
        .collect();
    found.sort_by_key(|one| (std::cmp::Reverse(one.level), std::cmp::Reverse(one.last_ms)));
    found
}

/// One line of a refused machine.
pub(super) fn line(one: &RefusedPicture) -> String {
    format!("region server {} is refused: {}; fix: {}", one.server, one.reason, one.fix)
}

fn last_words(classes: impl Iterator<Item = &'static str>) -> String {
    classes.map(|class| class.rsplit('.').next().unwrap_or(class)).collect::<Vec<_>>().join(", ")
}

/// How bad it is, why, and the fix. What only a region server can get wrong is bad: its entries wait.
fn words(capture: &str, why: Refused, detail: &str) -> (Level, String, String) {
    let only = "let only region servers connect to this port".to_owned();
    match why {
        Refused::Codec => (
            Level::Bad,
            format!(
                "codec {detail} (hbase.replication.rpc.codec) is not one of {}",
                last_words(Codec::ALL.into_iter().map(Codec::class))
            ),
            format!("weir peer add --codec KeyValueCodecWithTags --capture {capture}, then restart the region servers"),
        ),
        Refused::Compressor => (
            Level::Bad,
            format!(
                "compressor {detail} (hbase.client.rpc.compressor) is not one of {}",
                last_words(Compressor::ALL.into_iter().map(Compressor::class))
            ),
            format!("weir peer add --compressor none --capture {capture}, then restart the region servers"),
        ),
        Refused::Authentication => (
            Level::Bad,
            format!("login is not supported: {detail}"),
            "set hbase.security.authentication = simple in the CONFIG of the peer; Weir has no Kerberos login"
                .to_owned(),
        ),
        Refused::FrameLength => (
            Level::Bad,
            format!("a call is too long: {detail}"),
            "raise limits.frame; or lower hbase.ipc.max.request.size at the source".to_owned(),
        ),
        Refused::Malformed => (
            Level::Bad,
            format!("a call does not parse: {detail}"),
            "tell us the HBase version and this line".to_owned(),
        ),
        Refused::Tls => (
            Level::Warn,
            "TLS is not supported".to_owned(),
            "set hbase.client.netty.tls.enabled = false in the CONFIG of the peer".to_owned(),
        ),
        Refused::Preamble => (Level::Warn, format!("this is no HBase RPC: {detail}"), only),
        Refused::Header => (Level::Warn, format!("the connection header is not accepted: {detail}"), only),
        Refused::Method => (Level::Warn, format!("method {detail} is not supported"), only),
        Refused::Stalled => (
            Level::Warn,
            "a call began and did not end in time".to_owned(),
            "look at the network between that machine and this one".to_owned(),
        ),
        Refused::Draining => (Level::Warn, "this process stops".to_owned(), "start it again".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn refusal(why: Refused, detail: &str, last_ms: u64) -> Refusal {
        let address: IpAddr = "10.0.0.7".parse().unwrap();
        Refusal { address, why, detail: detail.to_owned(), count: 3, last_ms }
    }

    #[test]
    fn every_refusal_names_the_machine_the_reason_and_the_fix() {
        for why in Refused::ALL {
            let found = present("main", &[refusal(why, "org.x.Detail", 1000)], 2000);
            let line = line(&found[0]);
            assert!(line.starts_with("region server 10.0.0.7 is refused: "), "{line}");
            assert!(line.contains("; fix: "), "{line}");
            if why.is_of_connection() && why != Refused::Tls {
                assert!(line.contains("org.x.Detail"), "{line}");
            }
        }
        let compressor = present("main", &[refusal(Refused::Compressor, "org.x.Lz4Codec", 1000)], 2000);
        assert_eq!(
            line(&compressor[0]),
            "region server 10.0.0.7 is refused: compressor org.x.Lz4Codec (hbase.client.rpc.compressor) is not one of \
             DefaultCodec, SnappyCodec, GzipCodec; fix: weir peer add --compressor none --capture main, then restart the \
             region servers"
        );
    }

    #[test]
    fn the_worst_comes_first_and_the_old_is_gone() {
        let refusals = [
            refusal(Refused::Preamble, "", 5000),
            refusal(Refused::Codec, "x", 4000),
            refusal(Refused::Compressor, "y", 1),
        ];
        let found = present("main", &refusals, PRESENT_MS + 2);
        let levels: Vec<Level> = found.iter().map(|one| one.level).collect();
        assert_eq!(levels, [Level::Bad, Level::Warn]);
    }
}

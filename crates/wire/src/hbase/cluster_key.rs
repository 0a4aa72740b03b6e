//! Where a peer points to: `quorum:port:/znode` (`ZKConfig`), or the URI of 3.0 (`hbase+zk://quorum/znode`).

use std::collections::BTreeSet;
use std::fmt;

const PORT_DEFAULT: u16 = 2181;

/// A ZooKeeper ensemble and a base znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterKey {
    /// Servers in the order given; hosts in lower case, as names of hosts compare.
    pub servers: Vec<(String, u16)>,
    /// Base znode, without a slash at its end.
    pub znode: String,
}

impl ClusterKey {
    /// From a quorum, `host:port,host:port`; a server without a port has ZooKeeper's own, 2181.
    #[must_use]
    pub fn new(quorum: &str, znode: &str) -> Self {
        let servers = servers(quorum, PORT_DEFAULT);
        Self { servers, znode: znode.trim_end_matches('/').to_owned() }
    }

    /// Reads `h1,h2:port:/znode`, `h1:p1,h2:p2:port:/znode` or `hbase+zk://h1:p1,h2:p2/znode`; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("hbase+zk://") {
            let rest = rest.split('?').next().unwrap_or_default();
            let (quorum, znode) = rest.split_once('/')?;
            return Some(Self::new(quorum, &format!("/{znode}")));
        }
        let (rest, znode) = text.rsplit_once(':')?;
        let (quorum, port) = rest.rsplit_once(':')?;
        if quorum.is_empty() || !znode.starts_with('/') {
            return None;
        }
        let servers = servers(quorum, port.parse().ok()?);
        Some(Self { servers, znode: znode.trim_end_matches('/').to_owned() })
    }

    /// Whether both name the same znode on ensembles with a server in common. Another name of the same machine is
    /// not recognised.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let mine: BTreeSet<_> = self.servers.iter().collect();
        self.znode == other.znode && other.servers.iter().any(|server| mine.contains(server))
    }
}

fn servers(quorum: &str, port: u16) -> Vec<(String, u16)> {
    let server = |text: &str| match text.rsplit_once(':') {
        Some((host, own)) => (host.to_ascii_lowercase(), own.parse().unwrap_or(port)),
        None => (text.to_ascii_lowercase(), port),
    };
    quorum.split(',').filter(|text| !text.is_empty()).map(server).collect()
}

impl fmt::Display for ClusterKey {
    /// The short form when all ports are one, else the form in which each server has its own.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.servers.first().map_or(PORT_DEFAULT, |(_, port)| *port);
        let is_one_port = self.servers.iter().all(|(_, own)| *own == port);
        for (index, (host, own)) in self.servers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if is_one_port {
                write!(out, "{comma}{host}")?;
            } else {
                write!(out, "{comma}{host}:{own}")?;
            }
        }
        write!(out, ":{port}:{}", self.znode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_what_it_prints() {
        for text in ["zk-1,zk-2:2181:/weir/weir", "zk-1:2181,zk-2:2182:2181:/hbase"] {
            assert_eq!(ClusterKey::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ClusterKey::new("zk-1:2181,zk-2:2182", "/w/").to_string(), "zk-1:2181,zk-2:2182:2181:/w");
        for wrong in ["", "zk-1", "zk-1:2181", "zk-1:x:/h", "zk-1:2181:h", "hbase+rpc://m:16000"] {
            assert_eq!(ClusterKey::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn one_place_written_in_several_ways_is_one_place() {
        let check = |left: &str, right: &str, expect: bool| {
            let (one, other) = (ClusterKey::parse(left).unwrap(), ClusterKey::parse(right).unwrap());
            assert_eq!(one.is_same_place(&other), expect, "{left} {right}");
        };
        check("a,b:2181:/w", "B:2181,a:2181:9:/w/", true);
        check("a:2181:/w", "hbase+zk://a:2181/w?x=y", true);
        check("a:2181:/w", "a:2181:/w/x", false);
        check("a:2181:/w", "a:2182:/w", false);
        check("a:2181:/w", "b:2181:/w", false);
    }
}

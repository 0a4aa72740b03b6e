//! Names of WAL files, as a replication queue lists them (`AbstractFSWALProvider`): the group and the time.
//!
//! A region server has one group, or several with `hbase.wal.provider = multiwal`. Each group is written and shipped
//! by itself, one file after the other.

use std::collections::BTreeMap;

/// What the names of a queue's files tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalFiles {
    /// Files.
    pub file_count: usize,
    /// Groups that have a file in the queue.
    pub group_count: usize,
    /// When the oldest file was begun that is not the newest of its group, ms since 1970: the newest one is open, any
    /// other is waiting to be shipped to its end.
    pub oldest_rolled_ms: Option<u64>,
    /// When the newest file was begun.
    pub newest_ms: Option<u64>,
}

/// Group and time of a name: `GROUP.TIME`, or `GROUP.TIME.SUFFIX` (`.meta`, `.syncrep`).
#[must_use]
pub fn parse(name: &str) -> Option<(&str, u64)> {
    let time = |text: &str| -> Option<u64> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (head, tail) = name.rsplit_once('.')?;
    let (group, at_ms) = match time(tail) {
        Some(at_ms) => (head, at_ms),
        None => {
            let (group, at) = head.rsplit_once('.')?;
            (group, time(at)?)
        }
    };
    (!group.is_empty()).then_some((group, at_ms))
}

/// Looks at all names of a queue. A name of another form counts as a file, and tells nothing else.
#[must_use]
pub fn look<'a>(names: impl IntoIterator<Item = &'a str>) -> WalFiles {
    let mut groups: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut file_count = 0;
    for name in names {
        file_count += 1;
        if let Some((group, at_ms)) = parse(name) {
            groups.entry(group).or_default().push(at_ms);
        }
    }
    groups.values_mut().for_each(|times| times.sort_unstable());
    let rolled = groups.values().filter(|times| times.len() > 1).filter_map(|times| times.first());
    WalFiles {
        file_count,
        group_count: groups.len(),
        oldest_rolled_ms: rolled.min().copied(),
        newest_ms: groups.values().filter_map(|times| times.last()).max().copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_group_and_its_time() {
        let check = |name: &str, expect: Option<(&str, u64)>| assert_eq!(parse(name), expect, "{name}");
        check("rs-1.example.com%2C16020%2C1700.1701", Some(("rs-1.example.com%2C16020%2C1700", 1701)));
        check("10.0.0.1%2C1%2C2.3", Some(("10.0.0.1%2C1%2C2", 3)));
        check("a%2C1%2C2.a%2C1%2C2.regiongroup-2.5", Some(("a%2C1%2C2.a%2C1%2C2.regiongroup-2", 5)));
        check("a%2C1%2C2.meta.5.meta", Some(("a%2C1%2C2.meta", 5)));
        check("a.5.syncrep", Some(("a", 5)));
        for wrong in ["", "a", "a.b", ".5", "a.99999999999999999999999"] {
            check(wrong, None);
        }
    }

    #[test]
    fn only_a_file_that_is_not_the_newest_of_its_group_waits() {
        let check = |names: &[&str], group_count, oldest_rolled_ms, newest_ms| {
            let expect = WalFiles { file_count: names.len(), group_count, oldest_rolled_ms, newest_ms };
            assert_eq!(look(names.iter().copied()), expect, "{names:?}");
        };
        check(&[], 0, None, None);
        check(&["a.10"], 1, None, Some(10));
        check(&["a.10", "b.20", "c.30"], 3, None, Some(30));
        check(&["b.21", "a.10", "b.20", "b.19"], 2, Some(19), Some(21));
        check(&["a.9", "a.10", "odd"], 1, Some(9), Some(10));
    }
}

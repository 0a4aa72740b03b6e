//! Which regions a table has and where they are, as far as is known. Pure: no locks, no IO.

use super::locate::Location;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use weir_model::TableName;
use weir_wire::hbase::client::Lookup;
use weir_wire::hbase::zk::ServerName;

/// Locations by table and first row. No two regions of a table overlap: the newer one stays.
#[derive(Debug, Default)]
pub(super) struct RegionCache {
    tables: HashMap<TableName, BTreeMap<Bytes, Arc<Location>>>,
}

impl RegionCache {
    /// The region that is looked for.
    pub(super) fn find(&self, table: &TableName, lookup: Lookup<'_>) -> Option<Arc<Location>> {
        let regions = self.tables.get(table)?;
        let (_, location) = match lookup {
            Lookup::Holding(row) => {
                regions.range::<[u8], _>((Bound::Unbounded, Bound::Included(row))).next_back()
            }
            Lookup::Before([]) => regions.last_key_value(),
            Lookup::Before(row) => {
                regions.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(row))).next_back()
            }
        }?;
        lookup.fits(&location.region).then(|| location.clone())
    }

    /// Takes a region in, in place of all that it overlaps; not when one of those is newer.
    pub(super) fn insert(&mut self, table: &TableName, location: Arc<Location>) {
        let regions = self.tables.entry(table.clone()).or_default();
        let region = &location.region;
        let before = match region.end.as_ref() {
            [] => Bound::Unbounded,
            end => Bound::Excluded(end),
        };
        // From the end down, until one ends before this region starts.
        let overlapping: Vec<Bytes> = regions
            .range::<[u8], _>((Bound::Unbounded, before))
            .rev()
            .take_while(|(_, other)| other.region.overlaps(region))
            .map(|(start, _)| start.clone())
            .collect();
        let is_newer = |start: &Bytes| regions.get(start).is_some_and(|other| other.region.id > region.id);
        if overlapping.iter().any(is_newer) {
            return;
        }
        for start in overlapping {
            regions.remove(&start);
        }
        regions.insert(region.start.clone(), location);
    }

    /// Forgets a location, unless it is known by now to be elsewhere.
    pub(super) fn remove(&mut self, table: &TableName, location: &Location) {
        let Some(regions) = self.tables.get_mut(table) else { return };
        let is_same = |known: &Arc<Location>| {
            known.region.name == location.region.name && known.server == location.server
        };
        if regions.get(&location.region.start).is_some_and(is_same) {
            regions.remove(&location.region.start);
        }
    }

    /// Notes that a region has moved, if the region is still known at its old place.
    pub(super) fn moved(
        &mut self,
        table: &TableName,
        from: &Location,
        server: ServerName,
        open_sequence: u64,
    ) {
        let Some(regions) = self.tables.get_mut(table) else { return };
        if let Some(known) = regions.get_mut(&from.region.start)
            && known.region.name == from.region.name
            && known.server == from.server
        {
            *known = Arc::new(Location { region: from.region.clone(), server, open_sequence });
        }
    }

    /// Forgets all regions of a server.
    pub(super) fn remove_server(&mut self, server: &ServerName) {
        for regions in self.tables.values_mut() {
            regions.retain(|_, location| location.server != *server);
        }
    }

    /// All regions of a table that are known, in order.
    #[cfg(test)]
    fn regions(&self, table: &TableName) -> Vec<&weir_wire::hbase::client::RegionInfo> {
        self.tables.get(table).into_iter().flat_map(BTreeMap::values).map(|one| &one.region).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_wire::hbase::client::RegionInfo;

    fn table() -> TableName {
        TableName::new("t").unwrap()
    }

    fn region(start: &str, end: &str, id: u64) -> Arc<Location> {
        let region = RegionInfo {
            name: Bytes::from(format!("t,{start},{id}.x.")),
            table: "t".to_owned(),
            id,
            start: Bytes::copy_from_slice(start.as_bytes()),
            end: Bytes::copy_from_slice(end.as_bytes()),
            ..RegionInfo::meta()
        };
        Arc::new(Location { region, server: server(1), open_sequence: 1 })
    }

    fn server(port: u16) -> ServerName {
        ServerName { host: "rs".to_owned(), port, start_code: 1 }
    }

    #[test]
    fn daughters_take_the_place_of_their_parent_and_an_old_parent_does_not_come_back() {
        let mut cache = RegionCache::default();
        let parent = region("b", "", 1);
        cache.insert(&table(), parent.clone());
        cache.insert(&table(), region("", "b", 1));
        cache.insert(&table(), region("b", "m", 2));
        assert!(cache.find(&table(), Lookup::Holding(b"z")).is_none(), "the parent is gone as a whole");
        cache.insert(&table(), region("m", "", 2));
        cache.insert(&table(), parent);
        let starts: Vec<_> = cache.regions(&table()).iter().map(|region| region.start.clone()).collect();
        assert_eq!(starts, ["", "b", "m"]);
        let merged = region("b", "", 3);
        cache.insert(&table(), merged);
        assert_eq!(cache.find(&table(), Lookup::Holding(b"z")).unwrap().region.id, 3);
        assert_eq!(cache.regions(&table()).len(), 2);
    }

    #[test]
    fn a_location_is_forgotten_only_if_it_is_still_the_known_one() {
        let mut cache = RegionCache::default();
        let old = region("", "", 1);
        cache.insert(&table(), old.clone());
        cache.moved(&table(), &old, server(2), 2);
        cache.remove(&table(), &old);
        assert_eq!(cache.find(&table(), Lookup::Holding(b"a")).unwrap().server, server(2));
        cache.remove_server(&server(2));
        assert!(cache.find(&table(), Lookup::Holding(b"a")).is_none());
    }

    #[test]
    fn the_region_before_a_row_ends_with_it() {
        let mut cache = RegionCache::default();
        for (start, end) in [("", "b"), ("b", "m"), ("m", "")] {
            cache.insert(&table(), region(start, end, 1));
        }
        for (row, start) in [("m", "b"), ("c", "b"), ("b", ""), ("z", "m"), ("", "m")] {
            let found = cache.find(&table(), Lookup::Before(row.as_bytes())).unwrap();
            assert_eq!(found.region.start, start, "before {row:?}");
        }
    }

    proptest! {
        /// Whatever is taken in, in whatever order: no two overlap, and what is found holds the row.
        #[test]
        fn no_two_known_regions_overlap_and_what_is_found_holds_the_row(
            regions in proptest::collection::vec(("[a-e]{0,2}", "[a-e]{0,2}", 0..5u64), 0..30),
            row in "[a-e]{0,3}",
        ) {
            let mut cache = RegionCache::default();
            for (start, end, id) in &regions {
                if end.is_empty() || start < end {
                    cache.insert(&table(), region(start, end, *id));
                }
            }
            let known = cache.regions(&table());
            for (place, one) in known.iter().enumerate() {
                for other in &known[place + 1..] {
                    prop_assert!(!one.overlaps(other), "{one:?} and {other:?}");
                }
            }
            if let Some(found) = cache.find(&table(), Lookup::Holding(row.as_bytes())) {
                prop_assert!(found.region.holds(row.as_bytes()));
            }
            let holder = known.iter().filter(|region| region.holds(row.as_bytes())).count();
            prop_assert_eq!(holder, usize::from(cache.find(&table(), Lookup::Holding(row.as_bytes())).is_some()));
        }
    }
}

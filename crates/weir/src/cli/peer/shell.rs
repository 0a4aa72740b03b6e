//! Lines for HBase's own shell: what 1.x cannot do by RPC, and what `weir check` tells to run.

use weir_wire::hbase::peer_config::{Filter, Names, PeerConfig, TableFamilies, Wish};

/// The line that adds the peer.
pub(in crate::cli) fn add_peer(id: &str, wish: &Wish) -> String {
    let mut line = format!("add_peer '{id}', CLUSTER_KEY => \"{}\"", wish.cluster_key);
    if let Some(Filter::Only(Names { tables, .. })) = &wish.filter {
        line += &format!(", TABLE_CFS => {}", table_cfs(tables));
    }
    line + &format!(", CONFIG => {}", settings(&wish.settings))
}

/// The lines that make an existing peer of 1.x what is wished for; none when it is.
pub(super) fn update_peer(id: &str, now: &PeerConfig, wish: &Wish) -> Vec<String> {
    let mut lines = Vec::new();
    let other: Vec<_> = wish
        .settings
        .iter()
        .filter(|(name, value)| now.setting(name) != Some(value.as_str()))
        .cloned()
        .collect();
    if !other.is_empty() {
        lines.push(format!("update_peer_config '{id}', CONFIG => {}", settings(&other)));
    }
    if let Some(filter @ Filter::Only(Names { tables, .. })) = &wish.filter
        && now.filter != *filter
    {
        lines.push(format!("set_peer_tableCFs '{id}', {}", table_cfs(tables)));
    }
    lines
}

/// The line that turns replication on for families of a table.
pub(in crate::cli) fn alter(table: &str, families: &[String]) -> String {
    let one = |family: &String| format!("{{ NAME => '{family}', REPLICATION_SCOPE => 1 }}");
    format!("alter '{table}', {}", families.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn settings(settings: &[(String, String)]) -> String {
    let one = |(name, value): &(String, String)| format!("\"{name}\" => \"{value}\"");
    format!("{{ {} }}", settings.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn table_cfs(tables: &[TableFamilies]) -> String {
    let one = |table: &TableFamilies| {
        let families: Vec<String> = table.families.iter().map(|name| format!("\"{name}\"")).collect();
        format!("\"{}\" => [{}]", table.table, families.join(", "))
    };
    format!("{{ {} }}", tables.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::TableName;

    #[test]
    fn the_lines_are_those_of_hbases_shell() {
        let table = TableFamilies { table: TableName::new("t").unwrap(), families: vec!["f".to_owned()] };
        let wish = Wish {
            cluster_key: "zk:2181:/weir/weir".to_owned(),
            settings: vec![("a.b".to_owned(), "1.0".to_owned())],
            filter: Some(Filter::Only(Names { tables: vec![table], namespaces: vec![] })),
            is_serial: None,
        };
        assert_eq!(
            add_peer("weir", &wish),
            "add_peer 'weir', CLUSTER_KEY => \"zk:2181:/weir/weir\", TABLE_CFS => { \"t\" => [\"f\"] }, \
             CONFIG => { \"a.b\" => \"1.0\" }"
        );
        let now = PeerConfig {
            cluster_key: wish.cluster_key.clone(),
            settings: vec![],
            filter: Filter::AllBut(Names::default()),
            is_serial: false,
        };
        assert_eq!(
            update_peer("weir", &now, &wish),
            [
                "update_peer_config 'weir', CONFIG => { \"a.b\" => \"1.0\" }",
                "set_peer_tableCFs 'weir', { \"t\" => [\"f\"] }"
            ]
        );
        let right =
            PeerConfig { settings: wish.settings.clone(), filter: wish.filter.clone().unwrap(), ..now };
        assert!(update_peer("weir", &right, &wish).is_empty());
        assert_eq!(
            alter("t", &["f".to_owned(), "g".to_owned()]),
            "alter 't', { NAME => 'f', REPLICATION_SCOPE => 1 }, { NAME => 'g', REPLICATION_SCOPE => 1 }"
        );
    }
}

//! Which topic belongs to which table of which capture: the same rules by which `weir run` routes.

use crate::config::Config;
use weir_apps::capture::Settings;
use weir_model::{Fault, TableName};

/// A capture and its routing rules.
pub(super) struct Captured<'a> {
    /// Name of its section.
    pub(super) name: &'a str,
    /// Its rules.
    pub(super) settings: Settings,
}

/// All captures of a configuration.
pub(super) fn all(config: &Config) -> Result<Vec<Captured<'_>>, Fault> {
    let one = |(name, section)| {
        let name: &String = name;
        Ok(Captured { name, settings: crate::capture::settings(section)? })
    };
    config.capture.iter().map(one).collect()
}

impl Captured<'_> {
    /// The table of a topic, when this capture takes that table.
    pub(super) fn table(&self, topic: &str) -> Option<TableName> {
        let by_name = self.settings.topics.iter().find(|(_, name)| name.as_str() == topic);
        let table = match by_name {
            Some((table, _)) => table.clone(),
            // A table that has a name of its own does not use the topic that the rule would give it.
            None => {
                self.settings.naming.table(topic).filter(|table| !self.settings.topics.contains_key(table))?
            }
        };
        (self.settings.takes(&table) && !table.is_system()).then_some(table)
    }
}

/// The capture and the table of a topic; `None` when it is nobody's.
pub(super) fn of_topic<'a>(captures: &'a [Captured<'_>], topic: &str) -> Option<(&'a str, TableName)> {
    captures.iter().find_map(|capture| Some((capture.name, capture.table(topic)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn a_topic_is_its_tables_by_rule_or_by_name() {
        let text = "[capture.a]\nlisten = \"h:1\"\ntables.include = [\"shop:*\"]\n[capture.b]\nlisten = \"h:2\"\n\
                    tables.exclude = [\"secret\"]\ntopic.names = { \"named\" = \"x\" }\n";
        let config = load::text_of(text, "x").unwrap();
        let captures = all(&config).unwrap();
        let check = |topic: &str, expect: Option<(&str, &str)>| {
            let got = of_topic(&captures, topic);
            let got = got.as_ref().map(|(name, table)| (*name, table.as_str()));
            assert_eq!(got, expect, "{topic}");
        };
        check("hbase.shop--orders.wal", Some(("a", "shop:orders")));
        check("hbase.t.wal", Some(("b", "t")));
        check("x", Some(("b", "named")));
        check("hbase.named.wal", None);
        check("hbase.secret.wal", None);
        check("hbase.hbase--meta.wal", None);
        check("other", None);
    }
}

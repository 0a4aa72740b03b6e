//! Which topic belongs to which table of which capture: the same rules by which `weir run` routes.

use crate::config::{self, Config};
use crate::diagnosis::names::{Patterns, Place, Rules};
use std::collections::BTreeSet;
use weir_apps::capture::Settings;
use weir_model::{Fault, FaultKind, TableName};

/// A capture and its routing rules.
pub(crate) struct Captured<'a> {
    /// Name of its section.
    pub(crate) name: &'a str,
    /// Its section.
    pub(crate) section: &'a config::Capture,
    /// Its rules.
    pub(crate) settings: Settings,
}

/// All captures of a configuration.
pub(crate) fn all(config: &Config) -> Result<Vec<Captured<'_>>, Fault> {
    let one = |(name, section)| {
        let name: &String = name;
        Ok(Captured { name, section, settings: crate::capture::settings(section)? })
    };
    config.capture.iter().map(one).collect()
}

/// The capture of this name, or all when none is asked for.
pub(crate) fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Result<Vec<Captured<'a>>, Fault> {
    let mut captures = all(config)?;
    if let Some(name) = name {
        captures.retain(|capture| capture.name == name);
        if captures.is_empty() {
            let names: Vec<&str> = config.capture.keys().map(String::as_str).collect();
            let about = format!("there is no [capture.{name}]; there are: {}", names.join(", "));
            return Err(Fault::new(FaultKind::Config, config::load::CODE, "choose a capture", about));
        }
    }
    Ok(captures)
}

impl Captured<'_> {
    /// The tables of a topic that this capture takes; more than one when `topic.names` gives them the same topic.
    pub(crate) fn tables(&self, topic: &str) -> Vec<TableName> {
        let named = self.settings.topics.iter().filter(|(_, name)| name.as_str() == topic);
        let mut tables: Vec<TableName> = named.map(|(table, _)| table.clone()).collect();
        // A table that has a name of its own does not use the topic that the rule would give it.
        let by_rule = self.settings.naming.table(topic);
        tables.extend(by_rule.filter(|table| !self.settings.topics.contains_key(table)));
        tables.retain(|table| self.settings.takes(table) && !table.is_system());
        tables
    }

    /// Its rules, for what is decided about names.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules { capture: self.name, settings: &self.settings }
    }

    /// A table as this capture's.
    pub(crate) fn place<'p>(&'p self, table: &'p TableName) -> Place<'p> {
        Place { rules: self.rules(), table }
    }

    /// Its patterns as they are written.
    pub(crate) fn patterns(&self) -> Patterns<'_> {
        let tables = &self.section.tables;
        Patterns { rules: self.rules(), include: &tables.include, exclude: &tables.exclude }
    }

    /// Tables that the configuration names letter by letter and this capture takes.
    pub(crate) fn named(&self) -> BTreeSet<TableName> {
        let include = self.section.tables.include.iter().filter(|name| !name.contains('*'));
        let names = include.filter_map(|name| TableName::new(name).ok());
        let further = self.settings.topics.keys().chain(self.settings.families.keys()).cloned();
        let takes = |table: &TableName| self.settings.takes(table) && !table.is_system();
        names.chain(further).filter(takes).collect()
    }
}

/// Tables that the configuration names letter by letter, with the capture that takes them.
pub(crate) fn named<'a>(captures: &'a [Captured<'a>]) -> Vec<(&'a Captured<'a>, TableName)> {
    captures
        .iter()
        .flat_map(|capture| capture.named().into_iter().map(move |table| (capture, table)))
        .collect()
}

/// The captures and tables of a topic: none when it is nobody's, more than one when captures or tables share it.
pub(crate) fn of_topic<'a>(captures: &'a [Captured<'_>], topic: &str) -> Vec<(&'a Captured<'a>, TableName)> {
    captures
        .iter()
        .flat_map(|capture| capture.tables(topic).into_iter().map(move |table| (capture, table)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn a_topic_is_its_tables_by_rule_or_by_name() {
        let text = "[capture.a]\nlisten = \"h:1\"\ntables.include = [\"shop:*\"]\n[capture.b]\nlisten = \"h:2\"\n\
                    tables.exclude = [\"secret\"]\ntopic.names = { \"named\" = \"x\", \"other\" = \"x\" }\n";
        let config = load::text_of(text, "x").unwrap();
        let captures = all(&config).unwrap();
        let check = |topic: &str, expect: &[(&str, &str)]| {
            let got = of_topic(&captures, topic);
            let got: Vec<_> = got.iter().map(|(capture, table)| (capture.name, table.as_str())).collect();
            assert_eq!(got, expect, "{topic}");
        };
        check("hbase.shop--orders.wal", &[("a", "shop:orders"), ("b", "shop:orders")]);
        check("hbase.t.wal", &[("b", "t")]);
        check("x", &[("b", "named"), ("b", "other")]);
        check("hbase.named.wal", &[]);
        check("hbase.secret.wal", &[]);
        check("hbase.hbase--meta.wal", &[]);
        check("other", &[]);
    }
}

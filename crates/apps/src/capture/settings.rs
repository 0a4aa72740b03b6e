//! What is captured and how it is named: tables, families, topics, keys.

use std::collections::BTreeMap;
use weir_model::topic::TopicNameError;
use weir_model::{TableName, TopicName, TopicNaming};

/// How an entry becomes records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// One record per entry, keyed by the encoded region name.
    Region,
    /// One record per row of an entry, keyed by the row.
    Row,
    /// One record per row, keyed by the first so many bytes of the row.
    RowLength(usize),
    /// One record per row, keyed by the row up to (without) the first such byte; the whole row when it has none.
    RowDelimiter(u8),
}

impl KeyRule {
    /// The key of a row; `None` when records are keyed by region.
    #[must_use]
    pub fn of_row<'a>(&self, row: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Region => None,
            Self::Row => Some(row),
            Self::RowLength(length) => Some(row.get(..*length).unwrap_or(row)),
            Self::RowDelimiter(delimiter) => {
                let end = row.iter().position(|byte| byte == delimiter).unwrap_or(row.len());
                row.get(..end)
            }
        }
    }
}

/// A table name, or a pattern in which `*` stands for any characters.
///
/// With a colon it has two parts, and each is compared with its own part of a table's name: `default:*` is every table
/// of the default namespace and no other. Without a colon it is compared with the whole name as HBase writes it, and
/// `*` stands for a colon too: `*` is every table of every namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    namespace: Option<String>,
    name: String,
}

impl NamePattern {
    /// A pattern.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        match pattern.split_once(':') {
            Some((namespace, name)) => Self { namespace: Some(namespace.to_owned()), name: name.to_owned() },
            None => Self { namespace: None, name: pattern.to_owned() },
        }
    }

    /// Whether a table matches.
    #[must_use]
    pub fn matches(&self, table: &TableName) -> bool {
        match &self.namespace {
            Some(namespace) => {
                matches(namespace, table.namespace()) && matches(&self.name, table.qualifier())
            }
            None => matches(&self.name, table.as_str()),
        }
    }
}

/// Whether a text is as the pattern says.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
    }
    true
}

/// All settings of one capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Tables that are taken when one matches.
    pub include: Vec<NamePattern>,
    /// Tables that are left out, even if included.
    pub exclude: Vec<NamePattern>,
    /// Families that are taken, by table; a table that is not listed sends all.
    pub families: BTreeMap<TableName, Vec<Vec<u8>>>,
    /// The rule that names topics.
    pub naming: TopicNaming,
    /// Topics of tables that the rule cannot name.
    pub topics: BTreeMap<TableName, TopicName>,
    /// The record key.
    pub key: KeyRule,
    /// Whether records carry headers.
    pub headers: bool,
}

impl Settings {
    /// Settings that take every table under this naming rule, keyed by region, with headers.
    #[must_use]
    pub fn everything(naming: TopicNaming) -> Self {
        Self {
            include: vec![NamePattern::new("*")],
            exclude: Vec::new(),
            families: BTreeMap::new(),
            naming,
            topics: BTreeMap::new(),
            key: KeyRule::Region,
            headers: true,
        }
    }

    /// Whether a table is taken. System tables are a question of their own.
    #[must_use]
    pub fn takes(&self, table: &TableName) -> bool {
        let any = |patterns: &[NamePattern]| patterns.iter().any(|pattern| pattern.matches(table));
        any(&self.include) && !any(&self.exclude)
    }

    /// The topic of a table.
    ///
    /// # Errors
    /// When the rule cannot name it and no exception is listed.
    pub fn topic(&self, table: &TableName) -> Result<TopicName, TopicNameError> {
        match self.topics.get(table) {
            Some(topic) => Ok(topic.clone()),
            None => self.naming.topic(table),
        }
    }
}

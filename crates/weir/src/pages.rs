//! The pages of fault codes, from `docs/faults`, embedded in the binary.

/// One page.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The code, `W-...`.
    pub code: &'static str,
    /// The whole page in Markdown.
    pub text: &'static str,
}

impl Page {
    /// The title without the code.
    #[must_use]
    pub fn title(&self) -> &'static str {
        let line = self.text.lines().next().unwrap_or_default();
        line.split_once(": ").map_or(line, |(_, title)| title)
    }
}

const PAGES: &[Page] = &[
    Page { code: "W-CAPTURE-CORRUPT", text: include_str!("../../../docs/faults/W-CAPTURE-CORRUPT.md") },
    Page { code: "W-CAPTURE-TOPIC-NAME", text: include_str!("../../../docs/faults/W-CAPTURE-TOPIC-NAME.md") },
    Page { code: "W-CONFIG", text: include_str!("../../../docs/faults/W-CONFIG.md") },
    Page { code: "W-HBASE-MASTER", text: include_str!("../../../docs/faults/W-HBASE-MASTER.md") },
    Page { code: "W-KAFKA-DAMAGED", text: include_str!("../../../docs/faults/W-KAFKA-DAMAGED.md") },
    Page { code: "W-KAFKA-DENIED", text: include_str!("../../../docs/faults/W-KAFKA-DENIED.md") },
    Page { code: "W-KAFKA-REFUSED", text: include_str!("../../../docs/faults/W-KAFKA-REFUSED.md") },
    Page { code: "W-KAFKA-REJECTED", text: include_str!("../../../docs/faults/W-KAFKA-REJECTED.md") },
    Page { code: "W-KAFKA-TOPIC", text: include_str!("../../../docs/faults/W-KAFKA-TOPIC.md") },
    Page { code: "W-KAFKA-UNREACHABLE", text: include_str!("../../../docs/faults/W-KAFKA-UNREACHABLE.md") },
    Page { code: "W-LISTEN", text: include_str!("../../../docs/faults/W-LISTEN.md") },
    Page { code: "W-PEER-ELSEWHERE", text: include_str!("../../../docs/faults/W-PEER-ELSEWHERE.md") },
    Page { code: "W-RUNTIME-ENDED", text: include_str!("../../../docs/faults/W-RUNTIME-ENDED.md") },
    Page { code: "W-RUNTIME-GIVEN-UP", text: include_str!("../../../docs/faults/W-RUNTIME-GIVEN-UP.md") },
    Page {
        code: "W-RUNTIME-NOT-COMMITTED",
        text: include_str!("../../../docs/faults/W-RUNTIME-NOT-COMMITTED.md"),
    },
    Page {
        code: "W-RUNTIME-OUT-OF-RANGE",
        text: include_str!("../../../docs/faults/W-RUNTIME-OUT-OF-RANGE.md"),
    },
    Page { code: "W-SOURCE-REFUSED", text: include_str!("../../../docs/faults/W-SOURCE-REFUSED.md") },
    Page { code: "W-ZOOKEEPER-ANSWER", text: include_str!("../../../docs/faults/W-ZOOKEEPER-ANSWER.md") },
    Page { code: "W-ZOOKEEPER-DENIED", text: include_str!("../../../docs/faults/W-ZOOKEEPER-DENIED.md") },
    Page {
        code: "W-ZOOKEEPER-UNREACHABLE",
        text: include_str!("../../../docs/faults/W-ZOOKEEPER-UNREACHABLE.md"),
    },
];

/// All pages, by code.
#[must_use]
pub const fn all() -> &'static [Page] {
    PAGES
}

/// The page of a code, in any case of letters.
#[must_use]
pub fn find(code: &str) -> Option<Page> {
    PAGES.iter().copied().find(|page| page.code.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault codes in the sources of a folder, tests left out.
    fn codes(folder: &std::path::Path, found: &mut std::collections::BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                codes(&path, found);
            // This file names every code, so it proves nothing.
            } else if path.file_name().is_some_and(|name| name == "pages.rs") {
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let quoted = code.split('"').skip(1).filter(|word| word.starts_with("W-"));
                let is_code =
                    |word: &&str| word.chars().all(|letter| letter == '-' || letter.is_ascii_uppercase());
                found.extend(quoted.filter(is_code).map(ToOwned::to_owned));
            }
        }
    }

    #[test]
    fn every_fault_code_in_the_sources_has_a_page_and_no_page_is_of_nothing() {
        let mut found = std::collections::BTreeSet::new();
        for name in ["model", "wire", "runtime", "kafka", "hbase", "apps"] {
            codes(
                &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src"),
                &mut found,
            );
        }
        let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        codes(&own, &mut found);
        let pages: Vec<&str> = all().iter().map(|page| page.code).collect();
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), pages);
    }

    #[test]
    fn each_page_is_embedded_and_starts_with_its_code() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".md", ""))
            .collect();
        files.sort();
        assert_eq!(files, all().iter().map(|page| page.code).collect::<Vec<_>>());
        for page in all() {
            assert!(page.text.starts_with(&format!("# {}: ", page.code)), "{}", page.code);
            assert!(page.text.contains("**What you do.**"), "{}", page.code);
        }
        assert_eq!(find("w-config").unwrap().code, "W-CONFIG");
    }
}

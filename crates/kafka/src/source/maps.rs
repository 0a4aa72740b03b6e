//! The metadata of commits, no longer than the broker takes it (`offset.metadata.max.bytes`).
//!
//! The limit is not asked for: that needs a right on the cluster that a consumer may not have. It is learned from
//! refusals, each of which halves the metadata until the commit is taken. What is left out of the metadata is repeated
//! after a restart; without this nothing would be committed at all.

use super::{Note, Own, commit};
use crate::ffi::consumer::CommitAnswer;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::collections::HashMap;
use weir_runtime::offset_map;
use weir_runtime::record::Place;
use weir_runtime::source::Commit;

/// Metadata that is shorter says nothing.
const BYTES_MIN: usize = 7;

/// What the commits of a source may say, and those that have no answer yet.
#[derive(Debug)]
pub(super) struct Maps {
    /// Whether a commit carries the note of its topic: its metadata has room for it.
    pub(super) is_noting: bool,
    bytes_max: usize,
    sent: HashMap<usize, Vec<Commit>>,
}

impl Default for Maps {
    fn default() -> Self {
        Self { is_noting: true, bytes_max: usize::MAX, sent: HashMap::new() }
    }
}

/// A refusal of the metadata: of one commit, or of the record that all commits of a request make (`__consumer_offsets`
/// has a limit, too).
pub(super) const fn is_too_long(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE
            | Code::RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE
    )
}

impl Maps {
    /// Shortens the metadata to what the broker is known to take.
    pub(super) fn fit(&self, commit: &mut Commit) {
        if commit.metadata.len() > self.bytes_max {
            // Metadata of ours is always read.
            let done = offset_map::decode(commit.offset, &commit.metadata).unwrap_or_default();
            commit.metadata = offset_map::encode(commit.offset, &done, self.bytes_max);
        }
    }

    /// Returns commits as librdkafka takes them, with the notes of their topics.
    pub(super) fn list(&self, commits: &[Commit], own: &HashMap<Place, Own>) -> TopicPartitionList {
        let note = |commit: &Commit| own.get(&commit.place).and_then(|own| own.note);
        self.list_with_notes(commits.iter().map(|commit| (commit.clone(), note(commit))))
    }

    /// Returns commits as librdkafka takes them, with these notes.
    pub(super) fn list_with_notes(
        &self,
        commits: impl Iterator<Item = (Commit, Option<Note>)>,
    ) -> TopicPartitionList {
        let noted = commits.map(|(mut commit, note)| {
            if let Some(note) = note.filter(|_| self.is_noting) {
                commit.metadata.push_str(&note.text());
            }
            commit
        });
        commit::list(&noted.collect::<Vec<_>>())
    }

    /// Learns that metadata was refused. Whether a shorter one is worth a try: without the note first, because the map
    /// says more, then with half of the longest map.
    pub(super) fn refused<'a>(&mut self, commits: impl IntoIterator<Item = &'a Commit>) -> bool {
        let mut commits = commits.into_iter().peekable();
        if self.is_noting && commits.peek().is_some() {
            self.is_noting = false;
            return true;
        }
        let Some(longest) = commits.map(|commit| commit.metadata.len()).max() else {
            return false;
        };
        if longest == 0 {
            return false;
        }
        let half = if longest / 2 < BYTES_MIN { 0 } else { longest / 2 };
        self.bytes_max = self.bytes_max.min(half);
        tracing::warn!(
            refused_bytes = longest,
            bytes_max = self.bytes_max,
            "the broker takes no metadata of this length: records past the commit may be repeated after a restart; fix: \
             raise offset.metadata.max.bytes of the brokers"
        );
        true
    }

    /// Remembers a commit until its answer.
    pub(super) fn sent(&mut self, number: usize, commits: Vec<Commit>) {
        self.sent.insert(number, commits);
    }

    /// Forgets commits whose answers cannot come any more: their client was given up.
    pub(super) fn forget_sent(&mut self) {
        self.sent.clear();
    }

    /// Takes the partitions out of an answer whose metadata was refused: their commits, with shorter metadata.
    pub(super) fn shorter(&mut self, answer: &mut CommitAnswer) -> Vec<Commit> {
        let sent = self.sent.remove(&answer.number).unwrap_or_default();
        let is_refused = |commit: &Commit| {
            let code = answer.places.iter().find(|(place, _)| *place == commit.place).map(|(_, code)| *code);
            (self.is_noting || !commit.metadata.is_empty())
                && code.is_some_and(|code| is_too_long(code) || is_too_long(answer.code))
        };
        let mut refused: Vec<Commit> = sent.into_iter().filter(is_refused).collect();
        if self.refused(&refused) {
            answer.places.retain(|(place, _)| !refused.iter().any(|commit| commit.place == *place));
            refused.iter_mut().for_each(|commit| self.fit(commit));
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_runtime::record::Place;

    fn commit(partition: i32, runs: i64) -> Commit {
        let done: Vec<_> = (0..runs).map(|run| run * 100 + 1..run * 100 + 60).collect();
        Commit { place: Place::new("t", partition), offset: 0, metadata: offset_map::encode(0, &done, 4000) }
    }

    #[test]
    fn a_refused_map_is_halved_until_it_is_taken_and_what_was_learned_stays() {
        let mut maps = Maps { is_noting: false, ..Maps::default() };
        let (long, short) = (commit(0, 40), commit(1, 1));
        maps.sent(3, vec![long.clone(), short.clone()]);
        let mut answer = CommitAnswer {
            number: 3,
            code: Code::RD_KAFKA_RESP_ERR_NO_ERROR,
            places: vec![
                (long.place.clone(), Code::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE),
                (short.place.clone(), Code::RD_KAFKA_RESP_ERR_NO_ERROR),
            ],
        };
        let again = maps.shorter(&mut answer);
        assert_eq!(answer.places, [(short.place, Code::RD_KAFKA_RESP_ERR_NO_ERROR)]);
        let [again] = &again[..] else { panic!("one commit is repeated") };
        assert!(again.metadata.len() <= long.metadata.len() / 2 && !again.metadata.is_empty());
        let done = offset_map::decode(0, &again.metadata).unwrap();
        assert!(offset_map::decode(0, &long.metadata).unwrap().starts_with(&done));
        let mut next = commit(0, 40);
        maps.fit(&mut next);
        assert_eq!(next, *again);
        while maps.refused([&next]) {
            maps.fit(&mut next);
        }
        assert_eq!((next.metadata.as_str(), next.offset), ("", 0));
    }
}

//! The group: who is in it, and whose the partitions are.

use super::plan::Protocol;
use super::world::{GIVEN_MS_MAX, Held, Member, Partition, State, place};
use crate::record::Place;
use crate::source::{Assigned, Event};
use crate::wake::Wake;
use std::time::Duration;
use tokio::time::Instant;

impl State {
    /// A new life of a member.
    pub(super) fn birth(&mut self) -> usize {
        self.members.push(Member::default());
        self.members.len() - 1
    }

    pub(super) fn stopping(&mut self, member: usize) {
        self.members[member].is_stopping = true;
        self.leaves(member);
    }

    pub(super) fn leaves(&mut self, member: usize) {
        let watches: Vec<usize> = self.members[member].held.values().map(|held| held.watch).collect();
        watches.into_iter().for_each(|watch| self.book.watches[watch].is_leaving = true);
    }

    pub(super) fn join(&mut self, member: usize, wake: Wake) {
        self.members[member].wake = wake;
        self.members[member].is_in_group = true;
        self.deal();
    }

    pub(super) fn close(&mut self, member: usize) {
        let one = &mut self.members[member];
        if one.is_dead {
            return;
        }
        (one.is_in_group, one.is_closed) = (false, true);
        let left: Vec<usize> = one.held.keys().copied().collect();
        for partition in left {
            self.release(member, partition);
        }
        self.disown(member);
        self.deal();
    }

    /// Nothing is a member's any more, as the group sees it.
    pub(super) fn disown(&mut self, member: usize) {
        self.members[member].given.clear();
        for partition in &mut self.partitions {
            partition.owner = partition.owner.filter(|owner| *owner != member);
        }
    }

    /// Deals partitions to whoever is in the group.
    pub(super) fn deal(&mut self) {
        let members: Vec<usize> =
            (0..self.members.len()).filter(|member| self.members[*member].is_in_group).collect();
        for partition in &mut self.partitions {
            partition.target = (!members.is_empty()).then(|| members[self.dice.below(members.len())]);
        }
        self.is_dealing = self.plan.protocol == Protocol::Eager;
        for member in 0..self.members.len() {
            let is_to_go = |partition: &Partition| {
                partition.owner == Some(member) && (self.is_dealing || partition.target != Some(member))
            };
            let to_go = self.partitions.iter().enumerate().filter(|(_, partition)| is_to_go(partition));
            let to_go: Vec<usize> = to_go.map(|(index, _)| index).collect();
            self.ask_back(member, &to_go);
        }
        self.give_out();
    }

    pub(super) fn ask_back(&mut self, member: usize, partitions: &[usize]) {
        let one = &mut self.members[member];
        let mut places = Vec::new();
        for index in partitions {
            match one.held.get_mut(index) {
                Some(held) if !held.is_asked => {
                    held.is_asked = true;
                    places.push(place(*index));
                }
                Some(_) => {}
                // It was given back without a word, or has not come yet.
                None => {
                    one.given.retain(|(given, _)| given != index);
                    self.partitions[*index].owner = None;
                }
            }
        }
        if !places.is_empty() {
            one.tell(Event::Revoked(places));
        }
    }

    pub(super) fn give_out(&mut self) {
        if self.is_dealing && self.partitions.iter().any(|partition| partition.owner.is_some()) {
            return;
        }
        self.is_dealing = false;
        for index in 0..self.partitions.len() {
            let (None, Some(member)) = (self.partitions[index].owner, self.partitions[index].target) else {
                continue;
            };
            self.partitions[index].owner = Some(member);
            let heard = Duration::from_millis(self.dice.between(0, GIVEN_MS_MAX));
            self.members[member].given.push((index, Instant::now() + heard));
        }
    }

    /// A member hears that partitions are its own, and reads their commits.
    pub(super) fn take_given(&mut self, member: usize) -> Vec<Assigned> {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.members[member].given).into_iter().partition(|(_, at)| *at <= now);
        self.members[member].given = later;
        let mut assigned = Vec::new();
        for (index, _) in due {
            let partition = &mut self.partitions[index];
            let (committed, metadata) = partition.committed.clone().unzip();
            let watch = self.book.assign(member, index, partition.committed.as_ref());
            let held = Held {
                position: committed.unwrap_or(0),
                watch,
                fetched_at: now,
                is_asked: false,
                due: None,
                is_fenced: false,
                is_lost: false,
                is_committed: true,
            };
            self.members[member].held.insert(index, held);
            let metadata = metadata.unwrap_or_default();
            assigned.push(Assigned { place: place(index), committed, metadata });
        }
        assigned
    }

    /// The group gives a silent member's partitions to others.
    pub(super) fn fence(&mut self, member: usize) {
        let one = &mut self.members[member];
        if !one.is_in_group {
            return;
        }
        one.is_in_group = false;
        for held in one.held.values_mut() {
            held.is_fenced = true;
            self.book.counts.lost += 1;
        }
        self.disown(member);
        self.deal();
    }

    /// A fenced member may hear of it, when it looks next.
    pub(super) fn hear(&mut self, member: usize) {
        self.members[member].is_to_hear = true;
    }

    /// It hears, and joins again when it has nothing of the old left.
    pub(super) fn heard(&mut self, member: usize) {
        let one = &mut self.members[member];
        if !std::mem::take(&mut one.is_to_hear) || one.is_in_group || one.is_closed {
            return;
        }
        let places: Vec<Place> = one.held.keys().map(|partition| place(*partition)).collect();
        if places.is_empty() {
            self.rejoin(member);
        } else {
            one.tell(Event::Lost(places));
        }
    }

    pub(super) fn rejoin(&mut self, member: usize) {
        let one = &mut self.members[member];
        if !one.is_stopping && !one.is_closed && !one.is_dead && !one.is_in_group {
            one.is_in_group = true;
            self.deal();
        }
    }
}

//! Hooks: what a service does when partitions come and go, such as loading and dropping a cache for each of them.

use crate::record::Place;

/// What happened to partitions of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// They are this member's from now on; no record of them has been handled yet.
    Assigned(&'a [Place]),
    /// They were taken away in order, or the consumer stops. Nothing of them runs any more (a handler that did not end
    /// within the drain limit was dropped) and what was done is committed. The group waits until the hook returns.
    Revoked(&'a [Place]),
    /// They belong to another member already, which may handle the same records. Nothing of them runs any more.
    Lost(&'a [Place]),
}

type Hook = dyn FnMut(Change<'_>) + Send;

/// The hook of a consumer; none by default.
#[derive(Default)]
pub(crate) struct Hooks(Option<Box<Hook>>);

impl Hooks {
    pub(crate) fn new(hook: impl FnMut(Change<'_>) + Send + 'static) -> Self {
        Self(Some(Box::new(hook)))
    }

    pub(crate) fn assigned(&mut self, place: &Place) {
        if let Some(hook) = &mut self.0 {
            hook(Change::Assigned(std::slice::from_ref(place)));
        }
    }

    pub(crate) fn gone(&mut self, places: &[Place], is_lost: bool) {
        if let Some(hook) = self.0.as_mut().filter(|_| !places.is_empty()) {
            hook(if is_lost { Change::Lost(places) } else { Change::Revoked(places) });
        }
    }
}

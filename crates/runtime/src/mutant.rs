//! Defects that the simulator plants, to prove that its judge sees them. In the crate's own tests only: nothing of this
//! is in the library.

use crate::record::Place;
use crate::window::Window;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// One defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The window moves past the oldest record that is not done.
    CommitsPastAHole,
    /// The map of what is done claims one offset more.
    MapClaimsMore,
    /// What a predecessor had done is forgotten.
    ForgetsTheMap,
    /// Bits of an earlier assignment of a partition are there still when it comes back.
    WindowOutlivesItsAssignment,
    /// A record does not wait for the one before it of its key.
    TwoOfAKeyAtOnce,
    /// A record does not wait while the one before it waits for its next attempt.
    OvertakesARetry,
    /// A failed attempt finishes its record.
    ErrorIsDone,
    /// A record is finished although its dead letter was not written.
    LetterIsNotDurable,
    /// A timer is forgotten: the record never comes again.
    ForgetsATimer,
    /// A retry does not wait for its time.
    ComesEarly,
    /// Why a record failed is told to nobody.
    SaysNothing,
    /// With one partition's attempts those of others are dropped.
    CancelsOthers,
    /// A paused consumer goes on.
    IgnoresThePause,
    /// Attempts begin without a permit.
    IgnoresConcurrency,
    /// A drain takes a second longer than it may.
    DrainsTooLong,
    /// A partition is given back while attempts at its records run.
    LeavesWithoutADrain,
    /// What is done is not committed when a partition is given back.
    LeavesWithoutACommit,
    /// What was lost is committed all the same.
    CommitsWhatIsLost,
}

thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    /// The first window of each partition.
    static WINDOWS: RefCell<BTreeMap<Place, Window>> = const { RefCell::new(BTreeMap::new()) };
}

/// Whether this defect is planted on this thread; a simulated run is one thread.
pub(crate) fn is(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// Plants a defect on this thread, or takes it away.
pub(crate) fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
    WINDOWS.take();
}

/// This window, or one with the bits of the first that the partition had.
pub(crate) fn outlived(place: &Place, window: Window) -> Window {
    if !is(Mutant::WindowOutlivesItsAssignment) {
        return window;
    }
    WINDOWS.with_borrow_mut(|windows| {
        let Some(first) = windows.get(place) else {
            let first = Window::new(window.free()).with_bits_of(&window);
            windows.insert(place.clone(), first);
            return window;
        };
        window.with_bits_of(first)
    })
}

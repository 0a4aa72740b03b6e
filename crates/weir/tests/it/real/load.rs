//! A client that writes without a pause while something is done to the engines.

use std::sync::atomic::{AtomicBool, Ordering};
use weir_testkit::table::TableTool;

/// How a client writes, over and over.
pub(super) struct Load<'a> {
    pub(super) table: &'a str,
    /// Two loads with different seeds write different things.
    pub(super) seed: u64,
    /// Mutations of one command, and how many threads share them.
    pub(super) count: u32,
    pub(super) threads: u32,
}

impl Load<'_> {
    /// Runs `act` under this load, and returns when both have ended.
    ///
    /// # Panics
    /// When either fails, or the load ended before `act`.
    pub(super) fn during(&self, mut client: TableTool, act: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                for round in 0.. {
                    let Self { table, seed, count, threads } = self;
                    client.run(&format!("load {table} {} {count} {threads}", seed * 10_000 + round));
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            // Also when `act` fails: the scope waits for the load.
            let _stop = StopAtDrop(&stop);
            act();
            assert!(!load.is_finished(), "the load went on to the end");
        });
    }
}

struct StopAtDrop<'a>(&'a AtomicBool);

impl Drop for StopAtDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

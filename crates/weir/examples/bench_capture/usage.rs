//! What the kernel says of a process: CPU time by thread, peak memory. And the CPU time of the calling thread.
#![expect(unsafe_code, reason = "clock_gettime has no safe form in the standard library")]

use std::collections::BTreeMap;

/// CPU seconds by thread id, with the thread's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    threads: BTreeMap<u32, (String, f64)>,
}

impl Cpu {
    pub(crate) fn of(process: u32) -> Self {
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
            let folder = entry.unwrap().path();
            let id = folder.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap();
            let read = |file: &str| std::fs::read_to_string(folder.join(file));
            // A thread may end between the listing and the reading.
            let (Ok(name), Ok(time)) = (read("comm"), read("schedstat")) else { continue };
            let nanoseconds: f64 = time.split(' ').next().unwrap().parse().unwrap();
            threads.insert(id, (name.trim().to_owned(), nanoseconds / 1e9));
        }
        Self { threads }
    }

    /// Seconds since `before`, of the threads whose name is wanted.
    pub(crate) fn since(&self, before: &Self, wants: impl Fn(&str) -> bool) -> f64 {
        let of = |cpu: &Self, id: &u32| cpu.threads.get(id).map_or(0.0, |(_, seconds)| *seconds);
        self.threads
            .iter()
            .filter(|(_, (name, _))| wants(name))
            .map(|(id, (_, seconds))| seconds - of(before, id))
            .sum()
    }
}

/// Peak resident memory, MiB.
pub(crate) fn peak_mib(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

/// CPU time of the calling thread, nanoseconds.
pub(crate) fn thread_ns() -> u64 {
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the structure is that of 64-bit Linux, and lives through the call.
    let failed = unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "the clock is always there");
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

//! What processes use, as Linux tells it.

use std::time::Duration;

/// Processor time of this process so far.
pub fn cpu_time() -> Duration {
    // Fields 14 and 15 of its line: user and system.
    ticks("/proc/self/stat", 11)
}

/// Processor time of all children of a process that have ended, and of theirs.
pub fn children_cpu_time(process: u32) -> Duration {
    // Fields 16 and 17.
    ticks(&format!("/proc/{process}/stat"), 13)
}

/// The sum of two fields, counted behind the name, which may hold spaces; in ticks of 10 ms.
fn ticks(file: &str, skip: usize) -> Duration {
    let stat = std::fs::read_to_string(file).unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(skip)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    Duration::from_millis(fields.iter().sum::<u64>() * 10)
}

/// How many processes wanted a core in the last minute, on average.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// Resident memory, in bytes.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4096
}

/// The most memory that was ever resident, in bytes.
pub fn peak_resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

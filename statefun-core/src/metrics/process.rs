//! The process, as Linux' `/proc` shows it (proc(5)); other systems show nothing.

use super::snapshot::ProcessMetrics;

/// What the process uses now.
pub(crate) fn process() -> ProcessMetrics {
    let mut found = ProcessMetrics::default();
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
        read_stat(&stat, &mut found);
    }
    if let Ok(limits) = std::fs::read_to_string("/proc/self/limits") {
        found.max_fds = max_open_files(&limits);
    }
    if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
        // The directory that is being read is one of them.
        found.open_fds = (fds.count() as u64).saturating_sub(1);
    }
    let booted = std::fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|stat| boot_time(&stat));
    found.start_seconds += booted.unwrap_or_default();
    found
}

/// Behind the name, which may hold anything: fields 14 and 15 are processor time, 20 threads, 22 the start, 23 and 24 memory.
fn read_stat(stat: &str, found: &mut ProcessMetrics) {
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return;
    };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| -> u64 {
        let text = fields.get(number - 3);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
    found.cpu_seconds = (field(14) + field(15)) as f64 / ticks;
    found.threads = field(20);
    found.start_seconds = field(22) as f64 / ticks;
    found.virtual_bytes = field(23);
    found.resident_bytes = field(24) * rustix::param::page_size() as u64;
}

fn max_open_files(limits: &str) -> u64 {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(0)
}

fn boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let mut found = ProcessMetrics::default();
        let stat = "7 (a) 1 (b) S 1 7 7 0 -1 0 0 0 0 0 300 100 0 0 20 0 9 0 5000 4096000 10 0 0";
        read_stat(stat, &mut found);
        assert_eq!((found.threads, found.virtual_bytes), (9, 4_096_000));
        assert!((found.cpu_seconds - 4.0).abs() < 1e-9 && found.resident_bytes >= 40_960);
    }

    #[test]
    fn this_process_is_found() {
        let found = process();
        assert!(found.resident_bytes > 1 << 20 && found.virtual_bytes >= found.resident_bytes);
        assert!(found.open_fds >= 3 && found.max_fds >= found.open_fds && found.threads >= 1);
        // After 2020, and not in the future by more than the rounding of both.
        assert!(found.start_seconds > 1_577_836_800.0);
    }
}

//! The connectors against models of what must come out of them.

use std::sync::OnceLock;

mod output;

/// Names the case that fails.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing case: {}", self.0);
        }
    }
}

/// The seeds of a test: `STATEFUN_SEEDS` times as many when that is set, or the one in `STATEFUN_SEED`, to replay a failure.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    match number("STATEFUN_SEED") {
        Some(one) => one..one + 1,
        None => 0..count * number("STATEFUN_SEEDS").unwrap_or(1),
    }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    })
}

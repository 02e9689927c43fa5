//! The arguments of `statefun top`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{LiveArgs, duration};

/// Watches a running application: rates, latency, lag, the hottest addresses, checkpoints.
///
/// On a terminal the view is renewed every second, until `q`; `s` sorts the functions by something else, `?` says what the columns
/// mean. Elsewhere, and with `--once`, it is printed once. With `--format json` each view is a line with one object, whose names end in
/// what is measured: `_per_second`, `_ms`, `_bytes`; what is not known is null.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  statefun top
  statefun top --once --interval 10s
  statefun top --url http://10.0.0.7:9464 --token-file token
  statefun top --format json | jq '.functions[] | {function, in_per_second}'
Exit codes: 0 fine, 1 the application went away meanwhile, 2 not reached.")]
pub(crate) struct Top {
    /// Time between two looks, over which rates and latencies are taken.
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "1s")]
    pub(crate) interval: Duration,
    /// Look for one interval, print that, and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// What functions are sorted by.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) sort: TopSort,
    /// How views are written.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: TopFormat,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
}

/// What functions are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum TopSort {
    /// Messages that come in.
    #[default]
    In,
    /// Failed invocations.
    Errors,
    /// What 99 of 100 invocations do not exceed.
    P99,
    /// Messages that wait.
    Queue,
    /// The name.
    Name,
}

/// How views are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum TopFormat {
    /// For people.
    #[default]
    Human,
    /// A line with a JSON object for each view.
    Json,
}

/// Below that, the looking would be most of what is measured.
const SHORTEST: Duration = Duration::from_millis(100);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < SHORTEST {
        return Err("it is shorter than 100ms".to_owned());
    }
    Ok(interval)
}

//! Drives thousands of drivers and passengers against the application, over HTTP, and says how it went.
//!
//! Kill the application with `kill -9` while this runs, and start it again: every message is sent until it is answered,
//! those that must not take effect twice under an `Idempotency-Key`.

mod actors;
mod client;
mod report;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use statefun::rand::Random;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::actors::{Actor, Driver, Passenger, Plan};
use crate::client::{Client, Fatal};
use crate::report::{Report, Stats};

/// When, behind the end, so long no ride comes to its own, those that are left are given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// Drives thousands of drivers and passengers against the ride-sharing application.
#[derive(Debug, Parser)]
struct Options {
    /// Where the application listens.
    #[arg(long, default_value = "http://127.0.0.1:8080", env = "RIDES_URL")]
    url: String,
    /// How many drivers there are.
    #[arg(long, default_value_t = 2000)]
    drivers: u64,
    /// How many passengers there are.
    #[arg(long, default_value_t = 2000)]
    passengers: u64,
    /// How long passengers ask for rides. Rides under way come to their end behind that.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// What chance starts from: the same seed gives the same cells and ways.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The city is a square of so many cells.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..))]
    grid: u16,
    /// Time from one cell to the next.
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    step: Duration,
    /// Of a hundred drivers, so many want to be asked, and leave every other question unanswered.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(..=100))]
    undecided: u8,
    /// Connections of drivers, and as many of passengers: no more requests are ever under way.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// The application's file of events; in the end it is checked against what the passengers saw.
    #[arg(long)]
    events: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no runtime: {error}")),
    };
    match runtime.block_on(generate(options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => failed(&problem),
    }
}

fn failed(problem: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {problem}");
    ExitCode::from(2)
}

/// Runs all actors to their end; whether everything fits together.
async fn generate(options: Options) -> Result<bool, String> {
    let authority = options
        .url
        .strip_prefix("http://")
        .unwrap_or(&options.url)
        .trim_end_matches('/')
        .to_owned();
    // Another run is to be of other people: passengers go on where their last run ended.
    let mut random = Random::seeded(options.seed);
    let start = Instant::now();
    let plan = Arc::new(Plan {
        run: format!("{:08x}", Random::from_system().next_u64() >> 32),
        grid: options.grid,
        step: options.step,
        end: start + Duration::from_secs(options.seconds),
        give_up: AtomicBool::new(false),
    });
    let stats = Arc::new(Stats::default());
    let mut tasks = JoinSet::new();
    let undecided = u64::from(options.undecided);
    let drivers = split(options.drivers, options.connections, |number| {
        Actor::Driver(Driver::new(
            number,
            number % 100 < undecided,
            &plan,
            &mut random,
        ))
    });
    for actors in drivers {
        let client = Client::new(&authority, stats.clone(), random.next_u64());
        tasks.spawn(actors::act(actors, client, plan.clone(), stats.clone()));
    }
    let mut passengers = JoinSet::new();
    let groups = split(options.passengers, options.connections, |number| {
        Actor::Passenger(Passenger::new(number, &plan, &mut random))
    });
    for actors in groups {
        let client = Client::new(&authority, stats.clone(), random.next_u64());
        passengers.spawn(actors::act(actors, client, plan.clone(), stats.clone()));
    }
    let mut report = Report::new(start, stats.clone());
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let mut last_end = (plan.end, 0);
    // Drivers drive until the last passenger has arrived.
    loop {
        let over = stats.over();
        if over != last_end.1 {
            last_end = (Instant::now().max(plan.end), over);
        } else if Instant::now() > last_end.0 + PATIENCE {
            plan.give_up.store(true, Ordering::Relaxed);
        }
        tokio::select! {
            _ = ticks.tick() => report.progress(),
            ended = passengers.join_next() => match ended {
                Some(ended) => task_result(ended)?,
                None => break,
            },
            Some(ended) = tasks.join_next(), if options.drivers > 0 => task_result(ended)?,
        }
    }
    tasks.shutdown().await;
    Ok(report.summary(options.events.as_deref(), &plan.run).await)
}

fn task_result(ended: Result<Result<(), Fatal>, tokio::task::JoinError>) -> Result<(), String> {
    ended
        .map_err(|error| error.to_string())?
        .map_err(|fatal| fatal.to_string())
}

/// Deals actors out to connections.
fn split(count: u64, connections: u16, mut make: impl FnMut(u64) -> Actor) -> Vec<Vec<Actor>> {
    let mut groups: Vec<Vec<Actor>> = Vec::new();
    groups.resize_with(usize::from(connections), Vec::new);
    for number in 0..count {
        let group = (number % u64::from(connections)) as usize;
        if let Some(group) = groups.get_mut(group) {
            group.push(make(number));
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

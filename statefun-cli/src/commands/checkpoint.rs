//! `statefun checkpoint`: makes, lists, checks, restores and removes checkpoints.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::json;
use statefun_core::admin;
use statefun_core::catalog::DataDirectory;
use statefun_core::checkpoint::bucket::Bucket;
use statefun_core::checkpoint::location::Location;
use statefun_core::checkpoint::manifest::{Entry, Manifest};
use statefun_core::checkpoint::restore::Restore;
use statefun_core::checkpoint::verify::Verified;
use statefun_core::checkpoint::{CheckpointError, operate};
use statefun_core::clock::{Stopwatch, WallClock};
use statefun_core::disk::RealDisk;
use statefun_core::settings::Settings;

use crate::args::{Checkpoint, CheckpointCommand, ListFormat, LiveArgs};
use crate::client::percent_encode;
use crate::live::{Live, read};
use crate::project::{nearest_root, settings};
use crate::status::{Failure, Outcome, Status};
use crate::table::{grouped, printable, size, table};
use crate::terminal::Terminal;

/// How long a checkpoint may take: the first one is everything.
const PATIENCE: Duration = Duration::from_hours(2);
/// How long the application may take to say how it is.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn run(args: &Checkpoint, terminal: &Terminal) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format_args!("cannot use the network: {error}")))?;
    let as_json = args.format == ListFormat::Json;
    if let CheckpointCommand::Create { name } = &args.command {
        let live = Live::find(&args.live)?;
        let query = name
            .as_ref()
            .map(|name| format!("?name={}", percent_encode(name)));
        let uri = format!("/v1/checkpoint{}", query.unwrap_or_default());
        let answer = runtime.block_on(live.ask_within(Method::POST, &uri, PATIENCE))?;
        if as_json {
            terminal.data(&answer.body)?;
        } else {
            let entry: Entry = read(&answer)?;
            terminal.data(format!("{}\n", called(&entry)))?;
            terminal.note(format_args!(
                "made checkpoint {} of epoch {}: {}, {} of them uploaded",
                called(&entry),
                grouped(entry.epoch),
                size(entry.bytes),
                size(entry.uploaded_bytes)
            ));
        }
        return Ok(Status::Fine);
    }
    if let Some(url) = &args.live.url
        && !matches!(args.command, CheckpointCommand::Ls)
    {
        return Err(Failure::usage(format_args!(
            "`--url {url}` names a running application, which is not asked here"
        ))
        .help("where checkpoints are is said with `--checkpoint-url`"));
    }
    let place = Place::find(args)?;
    let bucket = &place.bucket;
    match &args.command {
        CheckpointCommand::Create { .. } => Ok(Status::Fine),
        CheckpointCommand::Ls => {
            let manifest = runtime
                .block_on(operate::manifest(bucket))
                .map_err(failed)?;
            let ended = list(&place, manifest.as_ref(), as_json, terminal)?;
            match runtime.block_on(problem(&args.live)) {
                Ok(Some(problem)) => terminal.warning(problem),
                // Who names an application wants to hear of it; else none need run.
                Err(failure) if args.live.url().is_some() => terminal.warning(failure.message),
                Ok(None) | Err(_) => {}
            }
            Ok(ended)
        }
        CheckpointCommand::Verify { wanted } => {
            let mut shown = Stopwatch::start();
            let tell = |found: &Verified| {
                if shown.elapsed() > SHOW_EVERY {
                    shown = Stopwatch::start();
                    terminal.progress(&format!(
                        "{} objects, {}",
                        grouped(found.objects),
                        size(found.bytes)
                    ));
                }
            };
            let found = runtime.block_on(operate::verify(bucket, wanted.as_deref(), tell));
            terminal.progress("");
            verified(&found.map_err(failed)?, as_json, terminal)
        }
        CheckpointCommand::Restore { wanted, replace } => {
            let directory = DataDirectory {
                root: place.data_dir.clone(),
                disk: Arc::new(RealDisk),
            };
            let (_going_on, stopping) = tokio::sync::watch::channel(false);
            let restore = Restore {
                bucket,
                directory: &directory,
                wanted,
                replace: *replace,
                take_over: false,
                runtime: runtime.handle(),
                stopping,
            };
            let restored = restore.run(|so_far| terminal.progress(&so_far.to_string()));
            terminal.progress("");
            let restored = restored.map_err(failed)?;
            if as_json {
                let done = json!({
                    "checkpoint": restored.checkpoint,
                    "replayedEpochs": restored.replayed_epochs,
                    "lineage": format!("{:016x}", restored.lineage),
                    "epoch": restored.epoch,
                    "rows": restored.progress.rows,
                    "bytes": restored.progress.bytes,
                    "elapsedMs": restored.progress.elapsed.as_millis() as u64,
                });
                terminal.data(format!("{done}\n"))?;
            } else {
                terminal.note(format_args!("{restored}, in {}", directory.root.display()));
            }
            Ok(Status::Fine)
        }
        CheckpointCommand::Rm { wanted } => {
            let (entry, objects) = runtime
                .block_on(operate::remove(bucket, wanted))
                .map_err(failed)?;
            if as_json {
                terminal.data(format!(
                    "{}\n",
                    json!({"removed": entry, "objects": objects})
                ))?;
            } else {
                let word = if objects == 1 { "object" } else { "objects" };
                terminal.note(format_args!(
                    "removed checkpoint {} and {objects} {word}",
                    called(&entry)
                ));
            }
            Ok(Status::Fine)
        }
    }
}

/// Where checkpoints and data are.
struct Place {
    bucket: Bucket,
    data_dir: PathBuf,
    retain: usize,
}

impl Place {
    fn find(args: &Checkpoint) -> Result<Self, Failure> {
        let root = nearest_root().unwrap_or_default();
        let settings = settings(&root)?;
        Ok(Self {
            bucket: bucket(args.checkpoint_url.as_deref(), &settings, &root)?,
            data_dir: args
                .live
                .data_dir
                .clone()
                .unwrap_or_else(|| root.join(&settings.data_dir)),
            retain: settings.checkpoint.retain.get() as usize,
        })
    }
}

/// Where checkpoints are, as the URL says, or statefun.yaml.
pub(crate) fn find_bucket(url: Option<&str>) -> Result<Bucket, Failure> {
    let root = nearest_root().unwrap_or_default();
    bucket(url, &settings(&root)?, &root)
}

fn bucket(url: Option<&str>, settings: &Settings, root: &Path) -> Result<Bucket, Failure> {
    let location = match url {
        Some(url) => Location::parse(url).map_err(Failure::input)?,
        None => settings
            .checkpoint
            .url
            .clone()
            .map(|location| beside(root, location))
            .ok_or_else(|| {
                Failure::input("it is not said where the checkpoints are")
                    .help("name it with `--checkpoint-url`, or give `checkpoint: {url: …}` in statefun.yaml")
            })?,
    };
    Bucket::open(&location, &settings.checkpoint.bucket()).map_err(Failure::input)
}

/// A relative directory of statefun.yaml is beside it.
fn beside(root: &Path, location: Location) -> Location {
    let relative = location
        .directory()
        .filter(|directory| directory.is_relative());
    let moved = relative.map(|directory| root.join(directory));
    let parsed = moved.and_then(|directory| Location::parse(&directory.to_string_lossy()).ok());
    parsed.unwrap_or(location)
}

pub(crate) fn failed(error: CheckpointError) -> Failure {
    match &error {
        CheckpointError::Bucket(_) => Failure::usage(error),
        _ => Failure::input(error),
    }
}

fn called(entry: &Entry) -> String {
    printable(entry.name.as_deref().unwrap_or(&entry.id))
}

fn list(place: &Place, manifest: Option<&Manifest>, as_json: bool, terminal: &Terminal) -> Outcome {
    let none = Vec::new();
    let entries = manifest.map_or(&none, |manifest| &manifest.checkpoints);
    if as_json {
        let text = serde_json::to_string_pretty(
            &json!({"writer": manifest.map(|manifest| &manifest.writer), "checkpoints": entries}),
        );
        terminal.data(format!("{}\n", text.unwrap_or_default()))?;
        return Ok(Status::Fine);
    }
    if entries.is_empty() {
        terminal.note(format_args!(
            "there are no checkpoints at {}",
            place.bucket.url()
        ));
        return Ok(Status::Fine);
    }
    let now = WallClock::default().now().as_ms();
    let unnamed = entries.iter().filter(|entry| entry.name.is_none()).count();
    let mut older = 0;
    let mut rows: Vec<Vec<String>> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| {
            let kept = if entry.name.is_some() {
                "until removed".to_owned()
            } else {
                older += 1;
                let until = place.retain + older - unnamed.min(place.retain + older);
                match until {
                    _ if at + 1 == entries.len() => "newest".to_owned(),
                    0 | 1 => "goes next".to_owned(),
                    more => format!("{more} more"),
                }
            };
            vec![
                entry.name.as_ref().map_or_else(
                    || entry.id.clone(),
                    |name| format!("{} ({})", printable(name), entry.id),
                ),
                age(now.saturating_sub(entry.created_ms)),
                grouped(entry.epoch),
                size(entry.bytes),
                size(entry.uploaded_bytes),
                kept,
            ]
        })
        .collect();
    rows.reverse();
    let heads = ["CHECKPOINT", "AGE", "EPOCH", "SIZE", "UPLOADED", "KEPT"];
    terminal.data(table(&heads, &rows, terminal))?;
    Ok(Status::Fine)
}

/// Why the running application makes no checkpoints at present; none when it does, or none runs.
async fn problem(args: &LiveArgs) -> Result<Option<String>, Failure> {
    let live = Live::find(args)?;
    let answer = live
        .ask_within(Method::GET, "/v1/status", STATUS_PATIENCE)
        .await?;
    let status: admin::Status = read(&answer)?;
    let Some(problem) = status.checkpoints.and_then(|of| of.problem) else {
        return Ok(None);
    };
    let since = WallClock::default()
        .now()
        .as_ms()
        .saturating_sub(problem.since_ms);
    Ok(Some(format!(
        "the application's checkpoints have failed for {}: {}",
        age(since),
        printable(&problem.error)
    )))
}

/// In the largest unit that fits.
fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn verified(found: &Verified, as_json: bool, terminal: &Terminal) -> Outcome {
    let problems = found.problems.iter();
    if as_json {
        let problems: Vec<_> = problems
            .map(
                |(checkpoint, error)| json!({"checkpoint": checkpoint, "error": error.to_string()}),
            )
            .collect();
        let done = json!({"objects": found.objects, "bytes": found.bytes, "rows": found.rows, "problems": problems});
        terminal.data(format!("{done}\n"))?;
    } else {
        for (checkpoint, error) in problems {
            terminal.data(format!("{checkpoint}: {error}\n"))?;
        }
        terminal.note(format_args!(
            "read {} objects, {}, {} rows: {}",
            grouped(found.objects),
            size(found.bytes),
            grouped(found.rows),
            match found.problems.len() {
                0 => "all is well".to_owned(),
                1 => "1 problem".to_owned(),
                more => format!("{more} problems"),
            }
        ));
    }
    Ok(if found.problems.is_empty() {
        Status::Fine
    } else {
        Status::WrongInput
    })
}

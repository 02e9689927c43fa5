//! Where checkpoints are, and beginning with one of them.

use std::sync::Arc;
use std::time::Duration;

use super::{Stop, told};
use crate::catalog::DataDirectory;
use crate::checkpoint::bucket::Bucket;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::restore::{self, Restore};
use crate::checkpoint::{CheckpointError, Checkpoints, operate};
use crate::clock::Stopwatch;
use crate::disk::RealDisk;
use crate::logging::say;
use crate::settings::Settings;

/// Where checkpoints go, as the settings say.
pub(super) fn open_checkpoints(settings: &Settings) -> Result<Option<Checkpoints>, Stop> {
    let Some(location) = &settings.checkpoint.url else {
        return Ok(None);
    };
    let bucket = Bucket::open(location, &settings.checkpoint.bucket());
    Ok(Some(Checkpoints {
        bucket: bucket.map_err(|error| Stop::Input(told(&error)))?,
        interval: settings.checkpoint.interval,
        retain: settings.checkpoint.retain.get() as usize,
        durability: settings.durability,
    }))
}

/// Makes the data directory from a checkpoint.
pub(super) fn restore(
    settings: &Settings,
    checkpoints: Option<&Checkpoints>,
    wanted: &str,
    replace: bool,
    runtime: &tokio::runtime::Handle,
) -> Result<(), Stop> {
    let input = |error: CheckpointError| Stop::Input(told(&error));
    let Some(Checkpoints { bucket, .. }) = checkpoints else {
        return Err(Stop::Input(
            "`--restore` needs to know where the checkpoints are: give `checkpoint: {url: …}` in statefun.yaml, or STATEFUN_CHECKPOINT_URL".to_owned(),
        ));
    };
    let directory = DataDirectory {
        root: settings.data_dir.clone(),
        disk: Arc::new(RealDisk),
    };
    let mut wanted = wanted;
    if wanted == "auto" {
        let has_some = |manifest: &Manifest| manifest.latest().is_some();
        if restore::holds_state(&directory).map_err(input)?
            || !runtime
                .block_on(operate::manifest(bucket))
                .map_err(input)?
                .as_ref()
                .is_some_and(has_some)
        {
            return Ok(());
        }
        wanted = "latest";
    }
    let (_going_on, stopping) = tokio::sync::watch::channel(false);
    let restore = Restore {
        bucket,
        directory: &directory,
        wanted,
        replace,
        take_over: true,
        runtime,
        stopping,
    };
    say(&format!("statefun: restoring from {}", bucket.url()));
    let mut told = Stopwatch::start();
    let restored = restore.run(|progress| {
        if told.elapsed() >= TELL_EVERY {
            told = Stopwatch::start();
            say(&format!("  {progress}"));
        }
    });
    say(&format!("  {}", restored.map_err(input)?));
    Ok(())
}

/// How often the progress of a restore is told.
const TELL_EVERY: Duration = Duration::from_secs(2);

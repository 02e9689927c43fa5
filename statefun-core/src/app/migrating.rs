//! `APP migrate --dry-run`: whether the code reads all that is stored, before it is deployed.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::{Stop, not_run, told};
use crate::catalog::{DataDirectory, StoredData};
use crate::checkpoint::view::CheckpointView;
use crate::checkpoint::{CheckpointError, Checkpoints};
use crate::disk::RealDisk;
use crate::inspect::{OfflineError, open_directory};
use crate::logging::{is_watched, say};
use crate::migrate::{MigrationReport, Progress};
use crate::runtime::Launch;
use crate::settings::Settings;

/// What is read, and how the result is written.
#[derive(Debug, Default)]
pub(super) struct Migrate {
    pub(super) dry_run: bool,
    /// A checkpoint: an id, a name, or `latest`.
    pub(super) checkpoint: Option<String>,
    pub(super) as_json: bool,
}

impl Migrate {
    /// Reads a checkpoint, the newest when none is named; or the data directory, where no checkpoints are made.
    pub(super) fn follow(
        &self,
        launch: Launch,
        settings: &Settings,
        checkpoints: Option<&Checkpoints>,
        runtime: &tokio::runtime::Handle,
    ) -> Result<(), Stop> {
        let report = match checkpoints {
            Some(Checkpoints { bucket, .. }) => {
                let wanted = self.checkpoint.as_deref().unwrap_or("latest");
                let failed = |error: CheckpointError| match error {
                    CheckpointError::Bucket(_) => Stop::Failed(told(&error)),
                    _ => Stop::Input(told(&error)),
                };
                let view = CheckpointView::open(bucket, runtime, wanted).map_err(failed)?;
                say(&format!(
                    "statefun: reading checkpoint {} at {}",
                    view.entry().id,
                    bucket.url()
                ));
                let last_record = view.last_record().map_err(failed)?;
                let data = StoredData {
                    store: &view,
                    last_record: &last_record,
                    undelivered: &BTreeMap::new(),
                };
                read(launch, view.catalog(), &data, runtime)?
            }
            None if self.checkpoint.is_some() => {
                return Err(Stop::Input(
                    "it is not said where the checkpoints are: give `checkpoint: {url: …}` in statefun.yaml, or STATEFUN_CHECKPOINT_URL"
                        .to_owned(),
                ));
            }
            None => {
                let directory = DataDirectory {
                    root: settings.data_dir.clone(),
                    disk: Arc::new(RealDisk),
                };
                let (view, _) = open_directory(&directory).map_err(|error| match error {
                    OfflineError::NoData(_) | OfflineError::InUse { .. } => {
                        Stop::Input(told(&error))
                    }
                    _ => Stop::Failed(told(&error)),
                })?;
                say(&format!("statefun: reading {}", directory.root.display()));
                let data = StoredData {
                    store: view.rows(),
                    last_record: &[],
                    undelivered: &BTreeMap::new(),
                };
                read(launch, view.catalog(), &data, runtime)?
            }
        };
        let text = if self.as_json {
            serde_json::to_string_pretty(&report).unwrap_or_default()
        } else {
            report.to_string().trim_end().to_owned()
        };
        let _ = writeln!(std::io::stdout(), "{text}");
        if report.is_clean() {
            return Ok(());
        }
        Err(Stop::Input(
            "not all that is stored would be read by this code: see above".to_owned(),
        ))
    }
}

fn read(
    launch: Launch,
    catalog: &crate::catalog::Catalog,
    data: &StoredData<'_>,
    runtime: &tokio::runtime::Handle,
) -> Result<MigrationReport, Stop> {
    let watched = is_watched();
    let mut progress = |progress: Progress| {
        if watched {
            let Progress {
                rows,
                key_groups,
                of_key_groups,
            } = progress;
            let _ = write!(
                std::io::stderr(),
                "\r\u{1b}[K{rows} rows, {key_groups} of {of_key_groups} key groups"
            );
        }
    };
    let registry = launch.registry(runtime).map_err(|error| not_run(&error))?;
    let report = crate::migrate::dry_run(&registry, catalog, data, &mut progress);
    if watched {
        let _ = write!(std::io::stderr(), "\r\u{1b}[K");
    }
    report.map_err(|error| Stop::Failed(told(&error)))
}

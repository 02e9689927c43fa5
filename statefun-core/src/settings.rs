//! Runtime settings: where the data lies and how much of the machine is used. `statefun.yaml`, overridden by `STATEFUN_…`,
//! overridden by flags. What is wired to what is module.yaml's business.

mod checkpoint;
mod operations;
mod tracing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use self::checkpoint::CheckpointSection;
use self::operations::OperationsSection;
use self::tracing::TracingSection;
use crate::engine::start::EngineSettings;
use crate::id::KeyGroups;
use crate::module::units::{ByteSize, parse_duration, parse_size};

pub use self::checkpoint::CheckpointSettings;
pub use self::operations::{DEFAULT_LISTEN, Listen, OperationsSettings};
pub use self::tracing::TracingSettings;

/// The name of the settings file.
pub const SETTINGS_FILE: &str = "statefun.yaml";

/// The settings of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the data lies.
    pub data_dir: PathBuf,
    /// Worker threads.
    pub workers: usize,
    /// Key groups of a new data directory.
    pub key_groups: KeyGroups,
    /// What decoded state may occupy in memory, in bytes.
    pub cache_bytes: u64,
    /// How long changes may stay in the epoch log alone before they are applied to the state store: the longer, the less is
    /// written, and the longer a start after a crash may take.
    pub apply_after: Duration,
    /// Bytes of the epoch log above which nothing is taken in.
    pub max_log_bytes: u64,
    /// How long a handler may run before it is reported.
    pub warn_after: Duration,
    /// Whether handlers are timed, and who sends how much is counted. Off saves a percent or two at most.
    pub metrics: bool,
    /// When an epoch counts as durable.
    pub durability: Durability,
    /// Checkpoints.
    pub checkpoint: CheckpointSettings,
    /// The operations endpoint.
    pub operations: OperationsSettings,
    /// Traces.
    pub tracing: TracingSettings,
}

/// When an epoch counts as durable, so that what it leads to may be seen outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on this machine's disk.
    #[default]
    Local,
    /// When it is where the checkpoints are, too: the loss of this machine loses nothing that was acknowledged.
    Blob,
}

impl Default for Settings {
    fn default() -> Self {
        let engine = EngineSettings::default();
        Self {
            data_dir: PathBuf::from(".statefun/data"),
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            key_groups: KeyGroups::default(),
            cache_bytes: engine.cache_bytes as u64,
            apply_after: engine.apply_after,
            max_log_bytes: engine.max_log_bytes,
            warn_after: engine.warn_after,
            metrics: engine.measures,
            durability: Durability::default(),
            checkpoint: CheckpointSettings::default(),
            operations: OperationsSettings::default(),
            tracing: TracingSettings::default(),
        }
    }
}

/// The least memory for changes that are applied to the state store together, in bytes.
const MIN_APPLY_BYTES: usize = 4 << 20;

/// A setting that cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// A value is not what it should be.
    #[error("{name}: {problem}")]
    Value {
        /// The setting, as the file, the environment or the flag names it.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    workers: Option<usize>,
    key_groups: Option<u16>,
    durability: Option<String>,
    state: StateSection,
    log: LogSection,
    handler: HandlerSection,
    metrics: Option<String>,
    checkpoint: CheckpointSection,
    operations: OperationsSection,
    tracing: TracingSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct StateSection {
    cache_bytes: Option<String>,
    apply_after: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct LogSection {
    max_bytes: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct HandlerSection {
    warn_after: Option<String>,
}

/// Settings that the environment may override, with how their text is read.
const ENVIRONMENT: [(&str, &str); 26] = [
    ("STATEFUN_DATA_DIR", "dataDir"),
    ("STATEFUN_WORKERS", "workers"),
    ("STATEFUN_KEY_GROUPS", "keyGroups"),
    ("STATEFUN_DURABILITY", "durability"),
    ("STATEFUN_STATE_CACHE_BYTES", "state.cacheBytes"),
    ("STATEFUN_STATE_APPLY_AFTER", "state.applyAfter"),
    ("STATEFUN_LOG_MAX_BYTES", "log.maxBytes"),
    ("STATEFUN_HANDLER_WARN_AFTER", "handler.warnAfter"),
    ("STATEFUN_METRICS", "metrics"),
    ("STATEFUN_CHECKPOINT_URL", "checkpoint.url"),
    ("STATEFUN_CHECKPOINT_INTERVAL", "checkpoint.interval"),
    ("STATEFUN_CHECKPOINT_RETAIN", "checkpoint.retain"),
    (
        "STATEFUN_CHECKPOINT_MAX_UPLOAD_BYTES_PER_SECOND",
        "checkpoint.maxUploadBytesPerSecond",
    ),
    ("STATEFUN_CHECKPOINT_S3_ENDPOINT", "checkpoint.s3.endpoint"),
    ("STATEFUN_CHECKPOINT_S3_REGION", "checkpoint.s3.region"),
    (
        "STATEFUN_CHECKPOINT_S3_PATH_STYLE",
        "checkpoint.s3.pathStyle",
    ),
    (
        "STATEFUN_CHECKPOINT_GCS_ENDPOINT",
        "checkpoint.gcs.endpoint",
    ),
    (
        "STATEFUN_CHECKPOINT_AZURE_ACCOUNT",
        "checkpoint.azure.account",
    ),
    (
        "STATEFUN_CHECKPOINT_AZURE_ENDPOINT",
        "checkpoint.azure.endpoint",
    ),
    ("STATEFUN_OPERATIONS_LISTEN", "operations.listen"),
    ("STATEFUN_OPERATIONS_TOKEN", "operations.token"),
    ("STATEFUN_TRACING_ENDPOINT", "tracing.endpoint"),
    ("STATEFUN_TRACING_SAMPLE", "tracing.sample"),
    ("STATEFUN_TRACING_SERVICE_NAME", "tracing.serviceName"),
    ("STATEFUN_TRACING_HEADERS", "tracing.headers"),
    ("STATEFUN_TRACING_IDS", "tracing.ids"),
];

/// YAML has several words for it.
fn on_or_off(value: &str) -> Result<bool, String> {
    match value {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => Err(format!("`{value}` is neither `on` nor `off`")),
    }
}

impl Settings {
    /// Reads the file, if it exists, and then the environment.
    pub fn load(
        file: &Path,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        match std::fs::read_to_string(file) {
            Ok(text) => settings.read_file(file, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(SettingsError::Read {
                    path: file.to_owned(),
                    source,
                });
            }
        }
        for (variable, name) in ENVIRONMENT {
            if let Some(value) = environment(variable) {
                settings
                    .set(name, &value)
                    .map_err(|problem| SettingsError::Value {
                        name: variable.to_owned(),
                        problem,
                    })?;
            }
        }
        settings.tracing.complete(environment);
        if settings.durability == Durability::Blob && settings.checkpoint.url.is_none() {
            return Err(SettingsError::Value {
                name: "durability".to_owned(),
                problem: "`blob` makes epochs durable where the checkpoints are: give that place in `checkpoint.url`, or in \
                          STATEFUN_CHECKPOINT_URL, such as s3://bucket/prefix"
                    .to_owned(),
            });
        }
        Ok(settings)
    }

    fn read_file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let failed = |problem: String| SettingsError::File {
            path: path.to_owned(),
            problem,
        };
        if text.trim().is_empty() {
            return Ok(());
        }
        let file: Option<File> =
            serde_yaml::from_str(text).map_err(|error| failed(error.to_string()))?;
        let Some(file) = file else { return Ok(()) };
        let values = [
            (
                "dataDir",
                file.data_dir.map(|dir| dir.to_string_lossy().into_owned()),
            ),
            ("workers", file.workers.map(|count| count.to_string())),
            ("keyGroups", file.key_groups.map(|count| count.to_string())),
            ("durability", file.durability),
            ("state.cacheBytes", file.state.cache_bytes),
            ("state.applyAfter", file.state.apply_after),
            ("log.maxBytes", file.log.max_bytes),
            ("handler.warnAfter", file.handler.warn_after),
            ("metrics", file.metrics),
        ];
        let sections = file.checkpoint.values().into_iter();
        let sections = sections
            .chain(file.operations.values())
            .chain(file.tracing.values());
        for (name, value) in values.into_iter().chain(sections) {
            if let Some(value) = value {
                self.set(name, &value)
                    .map_err(|problem| failed(format!("`{name}`: {problem}")))?;
            }
        }
        if let Some(headers) = file.tracing.headers {
            self.tracing.set_headers(headers);
        }
        Ok(())
    }

    /// Sets one setting from text, under the name that the file has for it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let size = || {
            parse_size(value)
                .map(ByteSize::bytes)
                .map_err(|error| error.to_string())
        };
        let duration = || parse_duration(value).map_err(|error| error.to_string());
        match name {
            "dataDir" if value.is_empty() => return Err("a directory is needed".to_owned()),
            "dataDir" => self.data_dir = PathBuf::from(value),
            "workers" => {
                self.workers = value
                    .parse()
                    .ok()
                    .filter(|count| (1..=1024).contains(count))
                    .ok_or_else(|| {
                        format!(
                            "`{value}` is no number of worker threads: give a number from 1 to 1024"
                        )
                    })?;
            }
            "keyGroups" => {
                let count = value.parse().ok().filter(|count| *count > 0);
                self.key_groups = KeyGroups::new(count.ok_or_else(|| {
                    format!("`{value}` is no number of key groups: give a number from 1 to 65535")
                })?);
            }
            "durability" => {
                self.durability = match value {
                    "local" => Durability::Local,
                    "blob" => Durability::Blob,
                    _ => {
                        return Err(format!(
                            "`{value}` is neither `local` (an epoch is durable on this machine's disk) nor `blob` (it is \
                             where the checkpoints are, too)"
                        ));
                    }
                };
            }
            "state.cacheBytes" => self.cache_bytes = size()?,
            "state.applyAfter" => self.apply_after = duration()?,
            "log.maxBytes" => self.max_log_bytes = size()?,
            "handler.warnAfter" => self.warn_after = duration()?,
            "metrics" => self.metrics = on_or_off(value)?,
            other => {
                let set = match other.split_once('.') {
                    Some(("checkpoint", name)) => self.checkpoint.set(name, value),
                    Some(("operations", name)) => self.operations.set(name, value),
                    Some(("tracing", name)) => self.tracing.set(name, value),
                    _ => None,
                };
                return set.unwrap_or_else(|| Err(format!("there is no setting `{other}`")));
            }
        }
        Ok(())
    }

    /// The part that the engine reads.
    pub fn engine(&self) -> EngineSettings {
        EngineSettings {
            workers: self.workers,
            cache_bytes: self.cache_bytes as usize,
            max_log_bytes: self.max_log_bytes,
            // What waits for the state store follows what memory there is.
            apply_bytes: (self.cache_bytes as usize / 2).max(MIN_APPLY_BYTES),
            apply_after: self.apply_after,
            warn_after: self.warn_after,
            measures: self.metrics,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use super::*;
    use crate::checkpoint::bucket::{AzureOptions, GcsOptions, S3Options};
    use crate::checkpoint::location::Location;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(SETTINGS_FILE);
        std::fs::write(&file, text).unwrap();
        let lookup = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Settings::load(&file, lookup)
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let text = "workers: 3\nstate:\n  cacheBytes: 8MiB\nhandler:\n  warnAfter: 2s\n";
        let settings = load(text, &[("STATEFUN_WORKERS", "5")]).unwrap();
        assert_eq!((settings.workers, settings.cache_bytes), (5, 8 << 20));
        assert_eq!(settings.warn_after, Duration::from_secs(2));
        assert_eq!(load("", &[]).unwrap(), Settings::default());
    }

    #[test]
    fn checkpoints_are_set_by_file_and_environment() {
        let text = "durability: blob\ncheckpoint:\n  url: s3://shop/a\n  interval: 5 min\n  retain: 7\n  \
                    maxUploadBytesPerSecond: 8MiB\n  s3: {endpoint: 'http://127.0.0.1:9', region: eu-west-1, pathStyle: true}\n  \
                    gcs: {endpoint: 'http://127.0.0.1:8'}\n  azure: {account: acme, endpoint: 'https://acme.example'}\n";
        let settings = load(text, &[]).unwrap();
        assert_eq!(settings.durability, Durability::Blob);
        let checkpoint = settings.checkpoint;
        assert_eq!(
            checkpoint.url.as_ref().map(Location::url),
            Some("s3://shop/a")
        );
        assert_eq!(checkpoint.interval, Duration::from_mins(5));
        assert_eq!(checkpoint.retain.get(), 7);
        let bucket = checkpoint.bucket();
        assert_eq!(
            bucket.max_upload_bytes_per_second.map(NonZeroU64::get),
            Some(8 << 20)
        );
        assert_eq!(bucket.s3.region.as_deref(), Some("eu-west-1"));
        assert_eq!(bucket.s3.path_style, Some(true));
        assert_eq!(bucket.azure.account.as_deref(), Some("acme"));

        // What the file can say, the environment can, and it counts more.
        let environment = [
            ("STATEFUN_DURABILITY", "local"),
            ("STATEFUN_CHECKPOINT_URL", "/var/checkpoints"),
            ("STATEFUN_CHECKPOINT_INTERVAL", "7s"),
            ("STATEFUN_CHECKPOINT_RETAIN", "1"),
            ("STATEFUN_CHECKPOINT_MAX_UPLOAD_BYTES_PER_SECOND", "1k"),
            ("STATEFUN_CHECKPOINT_S3_ENDPOINT", "https://one"),
            ("STATEFUN_CHECKPOINT_S3_REGION", "two"),
            ("STATEFUN_CHECKPOINT_S3_PATH_STYLE", "false"),
            ("STATEFUN_CHECKPOINT_GCS_ENDPOINT", "https://three"),
            ("STATEFUN_CHECKPOINT_AZURE_ACCOUNT", "four"),
            ("STATEFUN_CHECKPOINT_AZURE_ENDPOINT", "https://five"),
        ];
        let settings = load(text, &environment).unwrap();
        assert_eq!(settings.durability, Durability::Local);
        let some = |text: &str| Some(text.to_owned());
        let expected = CheckpointSettings {
            url: Location::parse("/var/checkpoints").ok(),
            interval: Duration::from_secs(7),
            retain: NonZeroU32::MIN,
            max_upload_bytes_per_second: NonZeroU64::new(1024),
            s3: S3Options {
                endpoint: some("https://one"),
                region: some("two"),
                path_style: Some(false),
            },
            gcs: GcsOptions {
                endpoint: some("https://three"),
            },
            azure: AzureOptions {
                account: some("four"),
                endpoint: some("https://five"),
            },
        };
        assert_eq!(settings.checkpoint, expected);
        assert_eq!(load("", &[]).unwrap().checkpoint.url, None);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, environment, expected) in [
            ("workers: none", vec![], "workers"),
            ("worker: 3", vec![], "worker"),
            ("workers: 0", vec![], "0"),
            ("durability: somewhere", vec![], "`blob`"),
            ("durability: blob", vec![], "checkpoint.url"),
            ("checkpoint: {url: 'http://a'}", vec![], "checkpoint.url"),
            ("checkpoint: {uri: a}", vec![], "uri"),
            ("checkpoint: {interval: 0s}", vec![], "checkpoint.interval"),
            ("checkpoint: {interval: 5}", vec![], "checkpoint.interval"),
            ("checkpoint: {retain: 0}", vec![], "checkpoint.retain"),
            ("checkpoint: {retain: -1}", vec![], "checkpoint.retain"),
            (
                "checkpoint: {maxUploadBytesPerSecond: 0}",
                vec![],
                "checkpoint.maxUploadBytesPerSecond",
            ),
            (
                "checkpoint: {s3: {endpoint: localhost}}",
                vec![],
                "checkpoint.s3.endpoint",
            ),
            ("checkpoint: {s3: {zone: a}}", vec![], "zone"),
            (
                "",
                vec![("STATEFUN_CHECKPOINT_S3_PATH_STYLE", "maybe")],
                "STATEFUN_CHECKPOINT_S3_PATH_STYLE",
            ),
            (
                "",
                vec![("STATEFUN_CHECKPOINT_URL", "s3://")],
                "STATEFUN_CHECKPOINT_URL",
            ),
            ("state: {cacheBytes: lots}", vec![], "state.cacheBytes"),
            ("", vec![("STATEFUN_WORKERS", "many")], "STATEFUN_WORKERS"),
        ] {
            let error = load(text, &environment).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

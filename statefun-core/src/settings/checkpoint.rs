//! The settings under `checkpoint`: where checkpoints go, how often, and how the place is reached.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde::Deserialize;

use crate::checkpoint::bucket::{AzureOptions, BucketOptions, GcsOptions, S3Options};
use crate::checkpoint::location::Location;
use crate::module::units::{ByteSize, parse_duration, parse_size};

/// Where checkpoints go, how often, and how the place is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Where they go. Without it there are none.
    pub url: Option<Location>,
    /// How long it is from the start of one to the start of the next.
    pub interval: Duration,
    /// How many are kept of those that have no name.
    pub retain: NonZeroU32,
    /// A bound for what is sent.
    pub max_upload_bytes_per_second: Option<NonZeroU64>,
    /// How `s3://` URLs are reached.
    pub s3: S3Options,
    /// How `gs://` URLs are reached.
    pub gcs: GcsOptions,
    /// How `az://` and `abfss://` URLs are reached.
    pub azure: AzureOptions,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            url: None,
            interval: Duration::from_mins(1),
            retain: const { NonZeroU32::new(3).unwrap() },
            max_upload_bytes_per_second: None,
            s3: S3Options::default(),
            gcs: GcsOptions::default(),
            azure: AzureOptions::default(),
        }
    }
}

impl CheckpointSettings {
    /// How a bucket is opened by them; credentials are those of the process's environment.
    pub fn bucket(&self) -> BucketOptions {
        BucketOptions {
            s3: self.s3.clone(),
            gcs: self.gcs.clone(),
            azure: self.azure.clone(),
            max_upload_bytes_per_second: self.max_upload_bytes_per_second,
            ..BucketOptions::default()
        }
    }

    /// Sets one from text, under the name that it has below `checkpoint`; nothing when there is none of that name.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        let text = |setting: &mut Option<String>| {
            if value.trim().is_empty() {
                return Err("a value is needed".to_owned());
            }
            *setting = Some(value.trim().to_owned());
            Ok(())
        };
        let address = |setting: &mut Option<String>| {
            if !value.starts_with("https://") && !value.starts_with("http://") {
                return Err(format!(
                    "`{value}` is no address of a store: it begins with https:// or http://"
                ));
            }
            *setting = Some(value.to_owned());
            Ok(())
        };
        Some(match name {
            "url" => Location::parse(value)
                .map(|location| self.url = Some(location))
                .map_err(|error| error.to_string()),
            "interval" => match parse_duration(value) {
                Ok(Duration::ZERO) => Err("checkpoints need some time between them".to_owned()),
                Ok(interval) => {
                    self.interval = interval;
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
            "retain" => value.parse().map(|count| self.retain = count).map_err(|_| {
                format!("`{value}` is no number of checkpoints to keep: give a number from 1 on")
            }),
            "maxUploadBytesPerSecond" => match parse_size(value).map(ByteSize::bytes) {
                Ok(bytes) => match NonZeroU64::new(bytes) {
                    None => Err("nothing could be sent: leave it out for no bound".to_owned()),
                    bound => {
                        self.max_upload_bytes_per_second = bound;
                        Ok(())
                    }
                },
                Err(error) => Err(error.to_string()),
            },
            "s3.endpoint" => address(&mut self.s3.endpoint),
            "s3.region" => text(&mut self.s3.region),
            "s3.pathStyle" => value
                .parse()
                .map(|path_style| self.s3.path_style = Some(path_style))
                .map_err(|_| format!("`{value}` is neither `true` nor `false`")),
            "gcs.endpoint" => address(&mut self.gcs.endpoint),
            "azure.account" => text(&mut self.azure.account),
            "azure.endpoint" => address(&mut self.azure.endpoint),
            _ => return None,
        })
    }
}

/// As it stands in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct CheckpointSection {
    url: Option<String>,
    interval: Option<String>,
    retain: Option<i64>,
    max_upload_bytes_per_second: Option<String>,
    s3: S3Section,
    gcs: GcsSection,
    azure: AzureSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct S3Section {
    endpoint: Option<String>,
    region: Option<String>,
    path_style: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct GcsSection {
    endpoint: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct AzureSection {
    account: Option<String>,
    endpoint: Option<String>,
}

impl CheckpointSection {
    /// Each setting with its text.
    pub(super) fn values(self) -> [(&'static str, Option<String>); 10] {
        [
            ("checkpoint.url", self.url),
            ("checkpoint.interval", self.interval),
            (
                "checkpoint.retain",
                self.retain.map(|count| count.to_string()),
            ),
            (
                "checkpoint.maxUploadBytesPerSecond",
                self.max_upload_bytes_per_second,
            ),
            ("checkpoint.s3.endpoint", self.s3.endpoint),
            ("checkpoint.s3.region", self.s3.region),
            (
                "checkpoint.s3.pathStyle",
                self.s3.path_style.map(|path_style| path_style.to_string()),
            ),
            ("checkpoint.gcs.endpoint", self.gcs.endpoint),
            ("checkpoint.azure.account", self.azure.account),
            ("checkpoint.azure.endpoint", self.azure.endpoint),
        ]
    }
}

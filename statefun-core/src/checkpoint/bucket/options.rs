//! How a bucket is reached, and how patient we are with it.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

/// How a bucket is reached. What is not said here is what the environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// For `s3://` URLs.
    pub s3: S3Options,
    /// For `gs://` URLs.
    pub gcs: GcsOptions,
    /// For `az://` and `abfss://` URLs.
    pub azure: AzureOptions,
    /// How long requests may take, and when they are tried again.
    pub retries: Retries,
    /// A bound for what is sent, shared by all clones of a bucket.
    pub max_upload_bytes_per_second: Option<NonZeroU64>,
    /// Where credentials come from, and what else is not said here.
    pub environment: Environment,
}

/// Amazon S3, and what speaks its protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The address of a store other than Amazon's; plain HTTP when it says `http://`. Else `AWS_ENDPOINT_URL_S3` or
    /// `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// Else `AWS_REGION` or `AWS_DEFAULT_REGION`, or that of the profile, or `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of a request (`true`) or is part of the name of the host (`false`). Else
    /// `AWS_VIRTUAL_HOSTED_STYLE_REQUEST`, or in the path.
    pub path_style: Option<bool>,
}

/// Google Cloud Storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcsOptions {
    /// The address of a store other than Google's; without credentials over plain HTTP when it says `http://`. Else
    /// `STORAGE_EMULATOR_HOST`.
    pub endpoint: Option<String>,
}

/// Azure Blob Storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AzureOptions {
    /// The storage account. Else what the URL says, or `AZURE_STORAGE_CONNECTION_STRING`, or
    /// `AZURE_STORAGE_ACCOUNT_NAME`.
    pub account: Option<String>,
    /// The address of the account, other than `https://<account>.blob.core.windows.net`; plain HTTP when it says
    /// `http://`. Of an emulator it ends with the name of the account.
    pub endpoint: Option<String>,
}

/// How long requests may take, and when they are tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// How long after its first failure a call is given up.
    pub give_up_after: Duration,
    /// The pause after the first failure, which doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long a request may take that moves nothing.
    pub request_timeout: Duration,
    /// What a request may take for the bytes that it moves: so many a second are expected.
    pub slowest_bytes_per_second: NonZeroU64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            give_up_after: Duration::from_mins(1),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            request_timeout: Duration::from_secs(15),
            slowest_bytes_per_second: const { NonZeroU64::new(256 << 10).unwrap() },
        }
    }
}

impl Retries {
    /// How long a request may take that moves so many bytes.
    pub(super) fn patience(&self, bytes: u64) -> Duration {
        let moving = bytes as f64 / self.slowest_bytes_per_second.get() as f64;
        self.request_timeout + Duration::from_secs_f64(moving)
    }
}

/// Variables with which the users of clouds say how they are reached. Their values are secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// Those of the process.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            variables: std::env::vars_os().filter_map(text).collect(),
        }
    }

    /// These and no others.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            variables: variables.into_iter().map(owned).collect(),
        }
    }

    /// A variable that is not empty.
    #[cfg(feature = "cloud")]
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// Those whose names begin so.
    #[cfg(feature = "cloud")]
    pub(super) fn beginning(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let all = self.variables.iter();
        all.map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::of_process()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

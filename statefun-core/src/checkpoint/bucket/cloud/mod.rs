//! The object stores of clouds. Each is there when its feature is.
//!
//! What `object_store` would do by itself, trying again, is left to [`super::Bucket`], and so are time-outs. Variables of the
//! environment are given to it one by one, so that tests have an environment of their own.

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcs")]
mod gcs;
#[cfg(feature = "s3")]
mod profile;
#[cfg(feature = "cloud")]
mod remote;
#[cfg(feature = "s3")]
mod s3;

use std::sync::Arc;

use super::error::BucketError;
use super::objects::Objects;
use super::options::BucketOptions;
use crate::checkpoint::location::{Cloud, CloudPlace, Location};

/// Opens a bucket; asks nothing of it.
pub(super) fn open(
    location: &Location,
    place: &CloudPlace,
    options: &BucketOptions,
) -> Result<Arc<dyn Objects>, BucketError> {
    let opened: Result<Arc<dyn Objects>, String> = match place.cloud {
        #[cfg(feature = "s3")]
        Cloud::S3 => s3::open(place, options),
        #[cfg(feature = "gcs")]
        Cloud::Gcs => gcs::open(place, options),
        #[cfg(feature = "azure")]
        Cloud::Azure => azure::open(place, options),
        #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
        missing => {
            let _ = options;
            Err(without(missing))
        }
    };
    opened.map_err(|problem| BucketError::Setup {
        url: location.url().to_owned(),
        problem,
    })
}

#[cfg(any(test, not(all(feature = "s3", feature = "gcs", feature = "azure"))))]
fn without(cloud: Cloud) -> String {
    let feature = cloud.feature();
    format!(
        "this needs the feature `{feature}`, which is not compiled in: in Cargo.toml, the line of `statefun` gets `features`, \
         as in\n    statefun = {{ package = \"statefun-core\", version = \"{}\", features = [\"{feature}\"] }}",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_feature_is_named_with_the_line_that_adds_it() {
        for (cloud, feature) in [
            (Cloud::S3, "s3"),
            (Cloud::Gcs, "gcs"),
            (Cloud::Azure, "azure"),
        ] {
            assert!(without(cloud).contains(&format!("features = [\"{feature}\"]")));
        }
    }
}

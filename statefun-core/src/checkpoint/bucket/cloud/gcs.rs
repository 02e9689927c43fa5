//! Google Cloud Storage.

use std::sync::Arc;

use object_store::client::{ClientConfigKey, StaticCredentialProvider};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};

use super::remote::{Remote, no_retries, prepare_tls, unusable};
use crate::checkpoint::bucket::objects::Objects;
use crate::checkpoint::bucket::options::BucketOptions;
use crate::checkpoint::location::CloudPlace;

pub(super) fn open(
    place: &CloudPlace,
    options: &BucketOptions,
) -> Result<Arc<dyn Objects>, String> {
    let environment = &options.environment;
    let mut builder = GoogleCloudStorageBuilder::new();
    for (name, value) in environment.beginning("GOOGLE_") {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let endpoint = match (
        &options.gcs.endpoint,
        environment.get("STORAGE_EMULATOR_HOST"),
    ) {
        (Some(endpoint), _) => Some(endpoint.clone()),
        // The clients of Google take both.
        (None, Some(host)) if host.contains("://") => Some(host.to_owned()),
        (None, Some(host)) => Some(format!("http://{host}")),
        (None, None) => None,
    };
    let plain = endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    if let Some(endpoint) = &endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    if plain {
        // A token must not go where everyone can read it.
        let nobody = GcpCredential {
            bearer: String::new(),
        };
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
    }
    prepare_tls();
    let builder = builder
        .with_config(
            GoogleConfigKey::Client(ClientConfigKey::AllowHttp),
            plain.to_string(),
        )
        .with_bucket_name(&place.bucket)
        .with_retry(no_retries());
    let built = match builder.clone().build() {
        // Without encryption nobody's certificates are needed: an image may have none.
        Err(_) if plain => {
            let none = GoogleConfigKey::Client(ClientConfigKey::NoSystemCertificates);
            builder.with_config(none, "true").build()
        }
        built => built,
    };
    let store = built.map_err(|error| unusable(&error))?;
    Ok(Remote::over(store))
}

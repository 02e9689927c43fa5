//! Amazon S3, and what speaks its protocol.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::ClientConfigKey;

use super::profile::Profile;
use super::remote::{Remote, no_retries, prepare_tls, unusable};
use crate::checkpoint::bucket::objects::Objects;
use crate::checkpoint::bucket::options::BucketOptions;
use crate::checkpoint::location::CloudPlace;

pub(super) fn open(
    place: &CloudPlace,
    options: &BucketOptions,
) -> Result<Arc<dyn Objects>, String> {
    let environment = &options.environment;
    let mut builder = AmazonS3Builder::new();
    let profile = Profile::read(environment)?;
    let told = profile.values.iter();
    let told = told.map(|(name, value)| (*name, value.as_str()));
    for (name, value) in environment.beginning("AWS_").chain(told) {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let endpoint = options.s3.endpoint.as_deref().or_else(|| {
        let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
        names.iter().find_map(|name| environment.get(name))
    });
    if let Some(region) = &options.s3.region {
        builder = builder.with_region(region);
    }
    let path_style = options.s3.path_style;
    if let Some(path_style) = path_style {
        builder = builder.with_virtual_hosted_style_request(!path_style);
    }
    let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    if let Some(endpoint) = endpoint {
        let endpoint = match path_style {
            Some(false) => with_host(endpoint, &place.bucket)?,
            _ => endpoint.to_owned(),
        };
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    prepare_tls();
    let builder = builder
        .with_config(
            AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp),
            plain.to_string(),
        )
        .with_bucket_name(&place.bucket)
        .with_retry(no_retries());
    let built = match builder.clone().build() {
        // Without encryption nobody's certificates are needed: an image may have none.
        Err(_) if plain => {
            let none = AmazonS3ConfigKey::Client(ClientConfigKey::NoSystemCertificates);
            builder.with_config(none, "true").build()
        }
        built => built,
    };
    let store = built.map_err(|error| unusable(&error))?;
    Ok(Remote::over(store))
}

/// The endpoint with the bucket in the name of its host, as the client wants it then.
fn with_host(endpoint: &str, bucket: &str) -> Result<String, String> {
    let (scheme, host) = endpoint.split_once("://").ok_or_else(|| {
        format!("the endpoint `{endpoint}` of `checkpoint.s3` is no URL: it begins with https:// or http://")
    })?;
    Ok(format!("{scheme}://{bucket}.{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_goes_before_the_host() {
        assert_eq!(
            with_host("https://s3.example.com:9000", "shop").as_deref(),
            Ok("https://shop.s3.example.com:9000")
        );
        assert!(with_host("s3.example.com", "shop").is_err());
    }
}

//! Azure Blob Storage.

use std::sync::Arc;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;

use super::remote::{Remote, no_retries, prepare_tls, unusable};
use crate::checkpoint::bucket::objects::Objects;
use crate::checkpoint::bucket::options::{BucketOptions, Environment};
use crate::checkpoint::location::CloudPlace;

/// The account of emulators, with its key, which is the same everywhere and no secret.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub(super) fn open(
    place: &CloudPlace,
    options: &BucketOptions,
) -> Result<Arc<dyn Objects>, String> {
    let environment = &options.environment;
    let mut builder = MicrosoftAzureBuilder::new();
    if let Some(endpoint) = environment.get("IDENTITY_ENDPOINT") {
        builder = builder.with_msi_endpoint(endpoint);
    }
    for (name, value) in environment.beginning("AZURE_") {
        match name.to_ascii_lowercase().parse() {
            Ok(AzureConfigKey::UseEmulator) | Err(_) => {}
            Ok(key) => builder = builder.with_config(key, value),
        }
    }
    let told = Told::by(environment)?;
    let account = options.azure.account.clone();
    let account = account.or_else(|| place.account.clone()).or(told.account);
    let endpoint = options.azure.endpoint.clone().or(told.endpoint);
    let of_emulator = endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.trim_end_matches('/').ends_with(EMULATOR_ACCOUNT));
    if of_emulator
        && account
            .as_deref()
            .is_none_or(|account| account == EMULATOR_ACCOUNT)
    {
        builder = builder
            .with_account(EMULATOR_ACCOUNT)
            .with_access_key(EMULATOR_KEY);
    } else if let Some(account) = account {
        builder = builder.with_account(account);
    }
    if let Some(key) = told.key {
        builder = builder.with_access_key(key);
    }
    if let Some(signature) = told.signature {
        builder = builder.with_config(AzureConfigKey::SasKey, signature);
    }
    let plain = endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    prepare_tls();
    let builder = builder
        .with_config(
            AzureConfigKey::Client(ClientConfigKey::AllowHttp),
            plain.to_string(),
        )
        .with_container_name(&place.bucket)
        .with_retry(no_retries());
    let built = match builder.clone().build() {
        // Without encryption nobody's certificates are needed: an image may have none.
        Err(_) if plain => {
            let none = AzureConfigKey::Client(ClientConfigKey::NoSystemCertificates);
            builder.with_config(none, "true").build()
        }
        built => built,
    };
    let store = built
        .map_err(|error| {
            format!("{} (the account stands in AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING, in \
                     `checkpoint.azure.account`, or in the URL: abfss://container@account.dfs.core.windows.net)", unusable(&error))
        })?;
    Ok(Remote::over(store))
}

/// What the environment says in ways that the client does not know.
#[derive(Default)]
struct Told {
    account: Option<String>,
    key: Option<String>,
    signature: Option<String>,
    endpoint: Option<String>,
}

impl Told {
    fn by(environment: &Environment) -> Result<Self, String> {
        if let Some(text) = environment.get("AZURE_STORAGE_CONNECTION_STRING") {
            return Self::in_connection_string(text);
        }
        let mut told = Self {
            // As Azure's command line names it.
            account: environment.get("AZURE_STORAGE_ACCOUNT").map(str::to_owned),
            key: environment.get("AZURE_STORAGE_KEY").map(str::to_owned),
            ..Self::default()
        };
        let emulator = environment.get("AZURE_STORAGE_USE_EMULATOR");
        if emulator.is_some_and(|value| matches!(value, "1" | "true" | "on" | "yes")) {
            told.endpoint = Some(emulator_endpoint(
                environment.get("AZURITE_BLOB_STORAGE_URL"),
            ));
        }
        Ok(told)
    }

    fn in_connection_string(text: &str) -> Result<Self, String> {
        let mut told = Self::default();
        let (mut protocol, mut suffix) = ("https", "core.windows.net");
        for pair in text.split(';').map(str::trim) {
            if pair.is_empty() {
                continue;
            }
            let Some((name, value)) = pair.split_once('=') else {
                return Err(
                    "AZURE_STORAGE_CONNECTION_STRING is not made of `name=value;` throughout"
                        .to_owned(),
                );
            };
            match name {
                "AccountName" => told.account = Some(value.to_owned()),
                "AccountKey" => told.key = Some(value.to_owned()),
                "SharedAccessSignature" => told.signature = Some(value.to_owned()),
                "BlobEndpoint" => told.endpoint = Some(value.to_owned()),
                "DefaultEndpointsProtocol" => protocol = value,
                "EndpointSuffix" => suffix = value,
                "UseDevelopmentStorage" if value == "true" => {
                    told.endpoint = Some(emulator_endpoint(None));
                }
                // Of queues, tables and files.
                _ => {}
            }
        }
        if let (None, Some(account)) = (&told.endpoint, &told.account) {
            told.endpoint = Some(format!("{protocol}://{account}.blob.{suffix}"));
        }
        Ok(told)
    }
}

fn emulator_endpoint(url: Option<&str>) -> String {
    let url = url.unwrap_or("http://127.0.0.1:10000");
    format!("{}/{EMULATOR_ACCOUNT}", url.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_read() {
        let told = Told::in_connection_string(
            "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=a2V5==;EndpointSuffix=core.chinacloudapi.cn;",
        )
        .unwrap();
        assert_eq!(told.account.as_deref(), Some("acme"));
        assert_eq!(told.key.as_deref(), Some("a2V5=="));
        assert_eq!(
            told.endpoint.as_deref(),
            Some("https://acme.blob.core.chinacloudapi.cn")
        );
        let told = Told::in_connection_string("UseDevelopmentStorage=true").unwrap();
        assert_eq!(
            told.endpoint.as_deref(),
            Some("http://127.0.0.1:10000/devstoreaccount1")
        );
        assert!(Told::in_connection_string("acme").is_err());
    }

    #[test]
    fn an_emulator_is_found_in_the_environment() {
        let environment = Environment::of([
            ("AZURE_STORAGE_USE_EMULATOR", "true"),
            ("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:4000/"),
        ]);
        let told = Told::by(&environment).unwrap();
        assert_eq!(
            told.endpoint.as_deref(),
            Some("http://127.0.0.1:4000/devstoreaccount1")
        );
    }
}

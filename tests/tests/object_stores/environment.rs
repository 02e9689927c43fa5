//! The environment alone says how a store is reached, in the ways that its users know.

use statefun_core::checkpoint::bucket::{
    AzureOptions, Bucket, BucketError, BucketOptions, Environment, GcsOptions, S3Options,
};
use statefun_core::checkpoint::location::Location;
use statefun_tests::servers::{Server, Store};

use crate::contract::bytes;
use crate::failing::started;

/// What the client of a store needs to know, in an environment that says nothing else.
async fn write(server: &Server, variables: &[(&str, &str)]) -> Result<(), BucketError> {
    let options = BucketOptions {
        environment: Environment::of(variables.iter().copied()),
        ..BucketOptions::default()
    };
    write_with(server, &options).await
}

async fn write_with(server: &Server, options: &BucketOptions) -> Result<(), BucketError> {
    let location = Location::parse(&server.url("a")).unwrap();
    let bucket = Bucket::open(&location, options)?;
    bucket.put("object", bytes("x")).await?;
    assert_eq!(bucket.get("object").await?, Some(bytes("x")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3() {
    let server = started(Store::S3).await;
    let endpoint = server.endpoint();
    let [key, secret] = [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "testtest"),
    ];
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        write(&server, &[key, secret, (name, &endpoint)])
            .await
            .unwrap();
    }
    // The narrower one counts, and a setting counts more than both.
    let nowhere = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let both = [key, secret, nowhere, ("AWS_ENDPOINT_URL_S3", &endpoint)];
    write(&server, &both).await.unwrap();
    let options = BucketOptions {
        s3: S3Options {
            endpoint: Some(endpoint),
            region: Some("eu-west-1".to_owned()),
            path_style: Some(true),
        },
        environment: Environment::of([
            key,
            secret,
            ("AWS_ENDPOINT_URL_S3", nowhere.1),
            ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
        ]),
        ..BucketOptions::default()
    };
    // Its region is another one, and it says so: the setting got through.
    let error = write_with(&server, &options).await.unwrap_err();
    assert!(error.to_string().contains("us-east-1"), "{error}");
    assert!(!error.is_transient(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure() {
    let server = started(Store::Azure).await;
    let endpoint = server.endpoint();
    let account = "devstoreaccount1";
    let key =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    let connection = format!("AccountName={account};AccountKey={key};BlobEndpoint={endpoint};");
    write(&server, &[("AZURE_STORAGE_CONNECTION_STRING", &connection)])
        .await
        .unwrap();
    let address = endpoint.strip_suffix("/devstoreaccount1").unwrap();
    let emulator = [
        ("AZURE_STORAGE_USE_EMULATOR", "true"),
        ("AZURITE_BLOB_STORAGE_URL", address),
    ];
    write(&server, &emulator).await.unwrap();
    // The endpoint as a setting, the account and its key from the environment.
    let options = BucketOptions {
        azure: AzureOptions {
            account: None,
            endpoint: Some(endpoint),
        },
        environment: Environment::of([
            ("AZURE_STORAGE_ACCOUNT_NAME", account),
            ("AZURE_STORAGE_ACCOUNT_KEY", key),
        ]),
        ..BucketOptions::default()
    };
    write_with(&server, &options).await.unwrap();
    let wrong = connection.replace("Eby8", "AAAA");
    let error = write(&server, &[("AZURE_STORAGE_CONNECTION_STRING", &wrong)]).await;
    assert!(
        matches!(error, Err(BucketError::Denied { .. })),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs() {
    let server = started(Store::Gcs).await;
    let endpoint = server.endpoint();
    let address = endpoint.strip_prefix("http://").unwrap();
    for host in [endpoint.as_str(), address] {
        write(&server, &[("STORAGE_EMULATOR_HOST", host)])
            .await
            .unwrap();
    }
    let options = BucketOptions {
        gcs: GcsOptions {
            endpoint: Some(format!("{endpoint}/")),
        },
        environment: Environment::of([("STORAGE_EMULATOR_HOST", "127.0.0.1:1")]),
        ..BucketOptions::default()
    };
    write_with(&server, &options).await.unwrap();
}

/// An image may hold nothing but the program. The certificates of the machine are read once in a process: so it is another.
#[test]
fn certificates_are_needed_where_something_is_encrypted() {
    let program = std::env::current_exe().unwrap();
    let none = [("SSL_CERT_FILE", "/none"), ("SSL_CERT_DIR", "/none")];
    for test in ["s3", "azure", "gcs"] {
        let run = std::process::Command::new(&program)
            .args(["--exact", &format!("environment::{test}")])
            .envs(none)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(said.contains("1 passed"), "{said}");
    }
    let run = std::process::Command::new(&program)
        .args(["--exact", "environment::encrypted"])
        .envs(none)
        .env(WITHOUT_CERTIFICATES, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

/// Tells the test below what its machine has.
const WITHOUT_CERTIFICATES: &str = "STATEFUN_TEST_WITHOUT_CERTIFICATES";

#[test]
fn encrypted() {
    for url in ["s3://shop/a", "gs://shop/a", "az://shop/a"] {
        let options = BucketOptions {
            environment: Environment::of([("AZURE_STORAGE_ACCOUNT_NAME", "acme")]),
            ..BucketOptions::default()
        };
        let opened = Bucket::open(&Location::parse(url).unwrap(), &options);
        if std::env::var_os(WITHOUT_CERTIFICATES).is_none() {
            opened.unwrap();
            continue;
        }
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("ca-certificates"), "{error}");
    }
}

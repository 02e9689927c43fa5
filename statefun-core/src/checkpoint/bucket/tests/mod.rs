//! Buckets over stores that fail.

mod faults;
mod local;
mod races;

use std::num::NonZeroU64;
use std::time::Duration;

use super::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn done(replaced: Replaced) -> Version {
    match replaced {
        Replaced::Done(version) => version,
        other => panic!("{other:?}"),
    }
}

/// The bucket at so many bytes a second.
fn at(bucket: Bucket, bytes_per_second: u64) -> Bucket {
    let pace = NonZeroU64::new(bytes_per_second).map(Pace::new);
    bucket.over(Arc::clone(&bucket.inner.store), Retries::default(), pace)
}

/// What every store does when nothing fails.
async fn contract(bucket: &Bucket) {
    assert_eq!(bucket.get("none").await.unwrap(), None);
    assert!(bucket.list("").await.unwrap().is_empty());
    bucket.delete("none").await.unwrap();

    bucket.put("runs/a", bytes("first")).await.unwrap();
    bucket.put("runs/a", bytes("second")).await.unwrap();
    assert_eq!(bucket.get("runs/a").await.unwrap(), Some(bytes("second")));
    assert_eq!(
        bucket.get_range("runs/a", 1..4).await.unwrap(),
        bytes("eco")
    );
    assert_eq!(bucket.get_range("runs/a", 4..9).await.unwrap(), bytes("nd"));
    assert_eq!(bucket.get_range("runs/a", 3..3).await.unwrap(), bytes(""));
    let beyond = bucket.get_range("runs/a", 6..9).await.unwrap_err();
    assert!(matches!(beyond, BucketError::Refused { .. }), "{beyond}");
    let missing = bucket.get_range("runs/b", 0..1).await.unwrap_err();
    assert!(matches!(missing, BucketError::Missing { .. }), "{missing}");

    let created = bucket.create("epochs/1/1", bytes("one")).await.unwrap();
    assert_eq!(created, Created::Done);
    let again = bucket.create("epochs/1/1", bytes("two")).await.unwrap();
    assert_eq!(again, Created::Exists);
    assert_eq!(bucket.get("epochs/1/1").await.unwrap(), Some(bytes("one")));

    let first = done(bucket.replace("top", bytes("1"), None).await.unwrap());
    let none = bucket.replace("top", bytes("2"), None).await.unwrap();
    assert!(matches!(none, Replaced::Conflict));
    let second = bucket.replace("top", bytes("2"), Some(&first)).await;
    let second = done(second.unwrap());
    let late = bucket.replace("top", bytes("3"), Some(&first)).await;
    assert!(matches!(late.unwrap(), Replaced::Conflict));
    let (there, version) = bucket.read_versioned("top").await.unwrap().unwrap();
    assert_eq!(there, bytes("2"));
    assert!(version.is_same(&second) && !version.is_same(&first));
    let absent = bucket.replace("bottom", bytes("1"), Some(&first)).await;
    assert!(matches!(absent.unwrap(), Replaced::Conflict));
    bucket.check_conditions().await.unwrap();

    bucket.put("epochs/10/1", bytes("")).await.unwrap();
    let names = async |prefix: &str| {
        let found = bucket.list(prefix).await.unwrap();
        found
            .into_iter()
            .map(|object| (object.name, object.bytes))
            .collect::<Vec<_>>()
    };
    let listed = |names: &[(&str, u64)]| {
        let owned = |(name, bytes): &(&str, u64)| ((*name).to_owned(), *bytes);
        names.iter().map(owned).collect::<Vec<_>>()
    };
    assert_eq!(
        names("").await,
        listed(&[
            ("epochs/1/1", 3),
            ("epochs/10/1", 0),
            ("runs/a", 6),
            ("top", 1)
        ])
    );
    assert_eq!(names("epochs/1/").await, listed(&[("epochs/1/1", 3)]));
    assert_eq!(
        names("epochs/1").await,
        listed(&[("epochs/1/1", 3), ("epochs/10/1", 0)])
    );
    assert_eq!(names("to").await, listed(&[("top", 1)]));
    bucket.delete("top").await.unwrap();
    bucket.delete("top").await.unwrap();
    assert_eq!(bucket.get("top").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn memory_keeps_the_contract() {
    contract(&Bucket::in_memory()).await;
}

#[tokio::test]
async fn names_that_not_every_store_can_hold_are_refused() {
    let bucket = Bucket::in_memory();
    for name in ["", "/a", "a/", "a//b", "a/../b", "a b", "a#1", "ä", "a\\b"] {
        let error = bucket.put(name, bytes("x")).await.unwrap_err();
        assert!(matches!(error, BucketError::Refused { .. }), "{name}");
        assert!(!error.is_transient());
    }
}

#[tokio::test(start_paused = true)]
async fn uploads_keep_to_the_pace_together() {
    let bucket = at(Bucket::in_memory(), 1000);
    let start = tokio::time::Instant::now();
    let mut tasks = Vec::new();
    for number in 0..10 {
        let bucket = bucket.clone();
        tasks.push(tokio::spawn(async move {
            let name = format!("object-{number}");
            bucket.put(&name, Bytes::from(vec![0; 500])).await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    // The first waits for nobody; virtual time, which is exact to its steps of a millisecond.
    let took = start.elapsed();
    let expected = Duration::from_millis(4500);
    assert!(
        took >= expected && took < expected + Duration::from_millis(50),
        "{took:?}"
    );
    assert_eq!(bucket.health().bytes_up, 5000);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_is_not_given_up() {
    let faults = Faults::none();
    // A hundred seconds for each attempt.
    let bucket = at(Bucket::in_memory().with_faults(&faults), 10);
    for _ in 0..5 {
        faults.next(Request::Put, Fault::ErrorBefore);
    }
    let content = Bytes::from(vec![0; 1000]);
    bucket.put("a", content).await.unwrap();
    assert_eq!(bucket.health().failures, 5);
}

#[test]
fn a_place_without_its_feature_or_setup_is_told() {
    let options = BucketOptions {
        environment: Environment::of([]),
        ..BucketOptions::default()
    };
    let location = Location::parse("az://shop/a").unwrap();
    let error = Bucket::open(&location, &options).unwrap_err().to_string();
    assert!(error.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{error}");
}

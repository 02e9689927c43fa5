//! Servers that are killed, stopped, or refuse, while writers write.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use statefun_core::checkpoint::bucket::{
    Bucket, BucketError, BucketOptions, Created, Environment, Replaced, Retries,
};
use statefun_core::checkpoint::location::Location;
use statefun_tests::kill::process::Patience;
use statefun_tests::servers::{Server, Store};

use crate::contract::bytes;

/// Gives up after minutes, so that what a busy machine delays is no failure; does not wait long for an answer.
fn retries() -> Retries {
    Retries {
        give_up_after: Duration::from_mins(5),
        longest_pause: Duration::from_millis(200),
        request_timeout: Duration::from_secs(2),
        slowest_bytes_per_second: NonZeroU64::new(256 << 10).unwrap(),
        ..Retries::default()
    }
}

/// A counter for each of two writers, and who wrote it last.
fn encode(of: [u64; 2], by: usize) -> Bytes {
    Bytes::from(format!("{} {} {by}", of[0], of[1]))
}

fn decode(bytes: &[u8]) -> [u64; 2] {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut numbers = text.split(' ').map(|number| number.parse().unwrap());
    [numbers.next().unwrap(), numbers.next().unwrap()]
}

/// What a writer was told.
#[derive(Debug, Default)]
struct Told {
    done: u64,
    overtaken: u64,
    /// Numbers of objects that it was told are there.
    created: Vec<u64>,
}

/// Counts, and creates objects in a row of numbers that it shares with the other writer, until it is told to stop.
async fn writer(bucket: Bucket, me: usize, mut stop: tokio::sync::watch::Receiver<bool>) -> Told {
    let mut told = Told::default();
    let mut number = 0;
    while !*stop.borrow_and_update() {
        let read = bucket.read_versioned("counter").await.unwrap();
        let version = read.as_ref().map(|(_, version)| version);
        let mut of = read.as_ref().map_or([0, 0], |(bytes, _)| decode(bytes));
        of[me] += 1;
        let replaced = bucket.replace("counter", encode(of, me), version).await;
        match replaced.unwrap() {
            Replaced::Done(_) => told.done += 1,
            Replaced::Conflict => {}
            Replaced::Overtaken => told.overtaken += 1,
        }
        let name = format!("row/{number:08}");
        let mark = bytes(&format!("{number} of writer {me}"));
        if bucket.create(&name, mark).await.unwrap() == Created::Done {
            told.created.push(number);
        }
        number += 1;
    }
    told
}

/// Two writers, while something happens to their store; afterwards what they were told is what is there.
async fn two_writers(server: &mut Server, disturb: impl AsyncFnOnce(&mut Server)) {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let open = |server: &Server| server.open("writers", retries());
    let writers = [0, 1].map(|me| tokio::spawn(writer(open(server), me, stopped.clone())));
    disturb(server).await;
    stop.send(true).unwrap();
    let mut told = Vec::new();
    for writer in writers {
        told.push(writer.await.unwrap());
    }

    let bucket = open(server);
    let (counter, _) = bucket.read_versioned("counter").await.unwrap().unwrap();
    let of = decode(&counter);
    for (me, told) in told.iter().enumerate() {
        let possible = told.done..=told.done + told.overtaken;
        assert!(
            possible.contains(&of[me]),
            "writer {me}: {of:?} there; told {} done, {} overtaken",
            told.done,
            told.overtaken
        );
        assert!(told.done > 0, "writer {me} did nothing");
        for number in &told.created {
            let name = format!("row/{number:08}");
            let mark = bytes(&format!("{number} of writer {me}"));
            assert_eq!(bucket.get(&name).await.unwrap(), Some(mark), "{name}");
        }
    }
    let row = bucket.list("row/").await.unwrap();
    let created = told.iter().map(|told| told.created.len()).sum::<usize>();
    assert_eq!(row.len(), created, "each has one creator");
}

/// Starts a server; installing it the first time takes minutes, during which nothing else may wait.
pub(crate) async fn started(store: Store) -> Server {
    tokio::task::spawn_blocking(move || Server::start(store))
        .await
        .unwrap()
}

/// Waits until the counter has moved on, so that there is something between two disturbances.
async fn progress(bucket: &Bucket) {
    let count = async || {
        let counter = bucket.get("counter").await.unwrap();
        counter.map_or(0, |counter| decode(&counter).iter().sum())
    };
    let before: u64 = count().await;
    let mut patience = Patience::default();
    while count().await < before + 20 {
        assert!(!patience.is_over(), "nobody counts any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_is_killed_and_started_again_amid_writes() {
    let mut server = started(Store::S3).await;
    two_writers(&mut server, async |server| {
        for _ in 0..6 {
            progress(&server.open("writers", retries())).await;
            server.kill();
            // Long enough for a few refused connections.
            tokio::time::sleep(Duration::from_millis(150)).await;
            tokio::task::block_in_place(|| server.restart());
        }
    })
    .await;
}

async fn stands_still_amid_writes(store: Store) {
    let mut server = started(store).await;
    two_writers(&mut server, async |server| {
        for _ in 0..2 {
            progress(&server.open("writers", retries())).await;
            server.pause();
            // Longer than requests wait: they are carried out after they were given up.
            tokio::time::sleep(retries().request_timeout * 3 / 2).await;
            server.resume();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_stands_still_amid_writes() {
    stands_still_amid_writes(Store::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_stands_still_amid_writes() {
    stands_still_amid_writes(Store::Azure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs_stands_still_amid_writes() {
    stands_still_amid_writes(Store::Gcs).await;
}

/// The directory in which [`directory_writer`] writes.
const DIRECTORY: &str = "STATEFUN_TEST_DIRECTORY";

/// A process of its own for the test below; in the process of the tests it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directory_writer() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let location = Location::parse(&directory).unwrap();
    let bucket = Bucket::open(&location, &BucketOptions::default()).unwrap();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    writer(bucket, 0, stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_writes_into_a_directory_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let location = Location::parse(directory.path().to_str().unwrap()).unwrap();
    let bucket = Bucket::open(&location, &BucketOptions::default()).unwrap();
    for _ in 0..10 {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "failing::directory_writer"])
            .env(DIRECTORY, directory.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        progress(&bucket).await;
        process.kill().unwrap();
        process.wait().unwrap();

        // Whatever there is is whole, and what was being written holds nobody up.
        let row = bucket.list("row/").await.unwrap();
        assert!(!row.is_empty());
        for (number, object) in row.iter().enumerate() {
            let mark = bytes(&format!("{number} of writer 0"));
            assert_eq!(bucket.get(&object.name).await.unwrap(), Some(mark));
        }
        let (counter, version) = bucket.read_versioned("counter").await.unwrap().unwrap();
        let [ours, theirs] = decode(&counter);
        let next = bucket.replace("counter", encode([ours, theirs + 1], 1), Some(&version));
        assert!(matches!(next.await.unwrap(), Replaced::Done(_)));
        let names = bucket.list("").await.unwrap();
        assert_eq!(names.len(), row.len() + 1, "drafts are no objects");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_is_seen_given_up_and_back() {
    for store in [Store::S3, Store::Azure, Store::Gcs] {
        let mut server = started(store).await;
        let impatient = Retries {
            give_up_after: Duration::from_millis(500),
            ..retries()
        };
        let bucket = server.open("down", impatient);
        bucket.put("a", bytes("x")).await.unwrap();
        server.kill();
        // The first request may go out on a connection of before: whether it arrived is not known.
        let error = bucket.create("b", bytes("x")).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        let failing = bucket.health().failing.expect("it fails");
        assert!(failing.failures > 1, "{failing:?}");
        tokio::task::block_in_place(|| server.restart());
        assert_eq!(bucket.create("b", bytes("x")).await.unwrap(), Created::Done);
        assert_eq!(bucket.health().failing, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_not_there_is_told_at_once() {
    for store in [Store::S3, Store::Azure, Store::Gcs] {
        let server = started(store).await;
        let url = server.url("a").replace("bucket", "another");
        let location = Location::parse(&url).unwrap();
        let bucket = Bucket::open(&location, &server.options(retries())).unwrap();
        let error = bucket.put("a", bytes("x")).await.unwrap_err();
        assert!(
            matches!(error, BucketError::NoBucket { .. }),
            "{store:?}: {error}"
        );
        assert_eq!(bucket.health().requests, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_told_at_once_and_not_shown() {
    let server = started(Store::S3).await;
    let mut options = server.options(retries());
    options.environment = Environment::of([
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "topsecret"),
    ]);
    let location = Location::parse(&server.url("a")).unwrap();
    let bucket = Bucket::open(&location, &options).unwrap();
    let error = bucket.put("a", bytes("x")).await.unwrap_err();
    assert!(matches!(error, BucketError::Denied { .. }), "{error}");
    assert_eq!(bucket.health().requests, 1);
    for shown in [error.to_string(), format!("{options:?} {bucket:?}")] {
        assert!(!shown.contains("topsecret"), "{shown}");
    }
}

//! Buckets on real stores: a directory, and servers of the three protocols. What a bucket promises holds on each.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says what it saw"
)]

mod contract;
mod environment;
mod failing;

use std::sync::Arc;

use statefun_core::checkpoint::bucket::{Bucket, BucketOptions, Retries};
use statefun_core::checkpoint::location::Location;
use statefun_tests::servers::{Server, Store};
use tempfile::TempDir;

/// Somewhere to keep objects, as long as it lives.
#[derive(Debug)]
enum Place {
    Directory(TempDir),
    Server(Box<Server>),
}

impl Place {
    fn directory() -> Self {
        Self::Directory(tempfile::tempdir().unwrap())
    }

    /// A bucket that nobody else has opened: another process might as well have.
    fn open(&self, prefix: &str) -> Bucket {
        match self {
            Self::Directory(directory) => {
                let path = directory.path().join(prefix);
                let location = Location::parse(path.to_str().unwrap()).unwrap();
                Bucket::open(&location, &BucketOptions::default()).unwrap()
            }
            Self::Server(server) => server.open(prefix, Retries::default()),
        }
    }
}

macro_rules! on_each_store {
    ($($check:ident),* $(,)?) => {
        mod directory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::contract::$check(std::sync::Arc::new(super::Place::directory())).await;
            })*
        }
        on_each_store!(@server s3, S3, $($check),*);
        on_each_store!(@server azure, Azure, $($check),*);
        on_each_store!(@server gcs, Gcs, $($check),*);
    };
    (@server $name:ident, $store:ident, $($check:ident),*) => {
        mod $name {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let place = super::start(super::Store::$store).await;
                super::contract::$check(place).await;
            })*
        }
    };
}

on_each_store!(
    objects_are_written_read_listed_and_deleted,
    conditions_hold,
    one_of_many_wins,
    large_objects_come_back,
    more_objects_than_a_page_are_listed,
    prefixes_are_apart,
);

async fn start(store: Store) -> Arc<Place> {
    Arc::new(Place::Server(Box::new(failing::started(store).await)))
}

//! What holds on every store while nothing fails.

use std::sync::Arc;

use bytes::Bytes;
use statefun_core::checkpoint::bucket::{Bucket, BucketError, Created, Replaced, Version};
use statefun_core::rand::Random;
use tokio::task::JoinSet;

use crate::Place;

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn done(replaced: Replaced) -> Version {
    match replaced {
        Replaced::Done(version) => version,
        other => panic!("{other:?}"),
    }
}

async fn names(bucket: &Bucket, prefix: &str) -> Vec<String> {
    let found = bucket.list(prefix).await.unwrap();
    found.into_iter().map(|object| object.name).collect()
}

pub(crate) async fn objects_are_written_read_listed_and_deleted(place: Arc<Place>) {
    let bucket = place.open("shop/checkpoints");
    assert_eq!(bucket.get("none").await.unwrap(), None);
    assert!(bucket.read_versioned("none").await.unwrap().is_none());
    assert!(names(&bucket, "").await.is_empty());
    assert!(names(&bucket, "runs/").await.is_empty());
    bucket.delete("none").await.unwrap();

    bucket.put("runs/a.run", bytes("0123456789")).await.unwrap();
    bucket.put("runs/a.run", bytes("0123456789")).await.unwrap();
    bucket.put("runs/b.run", bytes("")).await.unwrap();
    bucket.put("runs.old/a.run", bytes("x")).await.unwrap();
    bucket.put("manifest.json", bytes("{}")).await.unwrap();
    let whole = bucket.get("runs/a.run").await.unwrap();
    assert_eq!(whole, Some(bytes("0123456789")));
    assert_eq!(bucket.get("runs/b.run").await.unwrap(), Some(bytes("")));
    for (range, part) in [(0..1, "0"), (3..7, "3456"), (9..10, "9"), (8..20, "89")] {
        let got = bucket.get_range("runs/a.run", range.clone()).await;
        assert_eq!(got.unwrap(), bytes(part), "{range:?}");
    }
    let beyond = bucket.get_range("runs/a.run", 10..11).await.unwrap_err();
    assert!(matches!(beyond, BucketError::Refused { .. }), "{beyond}");
    let missing = bucket.get_range("runs/c.run", 0..1).await.unwrap_err();
    assert!(matches!(missing, BucketError::Missing { .. }), "{missing}");

    let all = [
        "manifest.json",
        "runs.old/a.run",
        "runs/a.run",
        "runs/b.run",
    ];
    assert_eq!(names(&bucket, "").await, all);
    assert_eq!(names(&bucket, "runs").await, all[1..]);
    assert_eq!(names(&bucket, "runs/").await, all[2..]);
    assert_eq!(names(&bucket, "runs/b").await, all[3..]);
    let listed = bucket.list("runs/a").await.unwrap();
    assert_eq!(listed[0].bytes, 10);
    // After 2020: milliseconds, not seconds.
    assert!(listed[0].modified_ms > 1_577_836_800_000, "{listed:?}");

    bucket.delete("runs/a.run").await.unwrap();
    bucket.delete("runs/a.run").await.unwrap();
    assert_eq!(bucket.get("runs/a.run").await.unwrap(), None);
    assert_eq!(names(&bucket, "runs/").await, ["runs/b.run"]);
    let health = bucket.health();
    assert_eq!((health.failures > 0, health.failing), (true, None));
    assert_eq!((health.bytes_up, health.bytes_down), (23, 18));
}

pub(crate) async fn conditions_hold(place: Arc<Place>) {
    let bucket = place.open("conditions");
    bucket.check_conditions().await.unwrap();
    let created = bucket.create("epochs/1", bytes("one")).await.unwrap();
    assert_eq!(created, Created::Done);
    let created = bucket.create("epochs/1", bytes("two")).await.unwrap();
    assert_eq!(created, Created::Exists);
    // Nothing was lost, so nothing of ours can be there.
    let created = bucket.create("epochs/1", bytes("one")).await.unwrap();
    assert_eq!(created, Created::Exists);
    assert_eq!(bucket.get("epochs/1").await.unwrap(), Some(bytes("one")));

    let first = done(bucket.replace("top", bytes("1"), None).await.unwrap());
    let other = place.open("conditions");
    let (there, read) = other.read_versioned("top").await.unwrap().unwrap();
    assert_eq!(there, bytes("1"));
    assert!(read.is_same(&first));
    let second = done(other.replace("top", bytes("2"), Some(&read)).await.unwrap());
    assert!(!second.is_same(&first));
    for stale in [None, Some(&first)] {
        let replaced = bucket.replace("top", bytes("3"), stale).await.unwrap();
        assert!(matches!(replaced, Replaced::Conflict), "{replaced:?}");
    }
    done(
        bucket
            .replace("top", bytes("3"), Some(&second))
            .await
            .unwrap(),
    );
    bucket.delete("top").await.unwrap();
    let gone = bucket.replace("top", bytes("4"), Some(&second)).await;
    assert!(matches!(gone.unwrap(), Replaced::Conflict));
    assert_eq!(bucket.get("top").await.unwrap(), None);
}

pub(crate) async fn one_of_many_wins(place: Arc<Place>) {
    let bucket = place.open("races");
    for round in 0..5 {
        let (once, top) = (format!("once-{round}"), format!("top-{round}"));
        let first = done(bucket.replace(&top, bytes("first"), None).await.unwrap());
        let mut racers = JoinSet::new();
        for racer in 0..16 {
            let bucket = place.open("races");
            let (once, top, first) = (once.clone(), top.clone(), first.clone());
            racers.spawn(async move {
                let mark = bytes(&format!("racer {racer}"));
                let created = bucket.create(&once, mark.clone()).await.unwrap();
                let replaced = bucket.replace(&top, mark.clone(), Some(&first)).await;
                (
                    mark,
                    created == Created::Done,
                    matches!(replaced.unwrap(), Replaced::Done(_)),
                )
            });
        }
        let told = racers.join_all().await;
        let created = told.iter().filter(|told| told.1).map(|told| &told.0);
        let there = bucket.get(&once).await.unwrap().unwrap();
        assert_eq!(created.collect::<Vec<_>>(), [&there], "round {round}");
        let replaced = told.iter().filter(|told| told.2).map(|told| &told.0);
        let there = bucket.get(&top).await.unwrap().unwrap();
        assert_eq!(replaced.collect::<Vec<_>>(), [&there], "round {round}");
    }
}

pub(crate) async fn large_objects_come_back(place: Arc<Place>) {
    let bucket = place.open("large");
    let mut random = Random::seeded(7);
    let words = std::iter::repeat_with(|| random.next_u64().to_le_bytes());
    let content = Bytes::from(words.take(6 << 20).flatten().collect::<Vec<u8>>());
    bucket.put("runs/large.run", content.clone()).await.unwrap();
    let there = bucket.get("runs/large.run").await.unwrap().unwrap();
    assert!(there == content, "{} of {}", there.len(), content.len());
    let middle = (20 << 20)..(29 << 20) as u64;
    let part = bucket.get_range("runs/large.run", middle.clone()).await;
    assert!(part.unwrap() == content[middle.start as usize..middle.end as usize]);
    let created = bucket.create("epochs/large", content.clone()).await;
    assert_eq!(created.unwrap(), Created::Done);
    let listed = bucket.list("epochs/").await.unwrap();
    assert_eq!(listed[0].bytes, content.len() as u64);
}

pub(crate) async fn more_objects_than_a_page_are_listed(place: Arc<Place>) {
    const OBJECTS: usize = 1_050;
    let bucket = place.open("many");
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let bucket = bucket.clone();
        writers.spawn(async move {
            for number in (writer..OBJECTS).step_by(8) {
                let name = format!("epochs/{number:020}.epochs");
                bucket.put(&name, bytes("x")).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let expected = (0..OBJECTS).map(|number| format!("epochs/{number:020}.epochs"));
    assert_eq!(
        names(&bucket, "epochs/").await,
        expected.collect::<Vec<_>>()
    );
}

pub(crate) async fn prefixes_are_apart(place: Arc<Place>) {
    let (one, other) = (place.open("a/shop"), place.open("a/shop-2"));
    one.put("manifest.json", bytes("1")).await.unwrap();
    other.put("manifest.json", bytes("2")).await.unwrap();
    assert_eq!(one.get("manifest.json").await.unwrap(), Some(bytes("1")));
    assert_eq!(names(&one, "").await, ["manifest.json"]);
    assert_eq!(names(&other, "man").await, ["manifest.json"]);
    one.delete("manifest.json").await.unwrap();
    assert_eq!(other.get("manifest.json").await.unwrap(), Some(bytes("2")));
}

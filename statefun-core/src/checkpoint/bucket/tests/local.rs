//! Directories.

use std::sync::Arc;

use super::*;

fn open(path: &std::path::Path) -> Bucket {
    let location = Location::parse(path.to_str().unwrap()).unwrap();
    Bucket::open(&location, &BucketOptions::default()).unwrap()
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    contract(&open(&directory.path().join("a/b"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_wins() {
    let directory = tempfile::tempdir().unwrap();
    let path = Arc::new(directory.path().to_owned());
    let first = done(
        open(&path)
            .replace("top", bytes("first"), None)
            .await
            .unwrap(),
    );
    let mut tasks = Vec::new();
    for racer in 0..16 {
        let (path, first) = (Arc::clone(&path), first.clone());
        tasks.push(tokio::spawn(async move {
            // Opened anew, as another process would.
            let bucket = open(&path);
            let mark = bytes(&format!("racer {racer}"));
            let created = bucket.create("once", mark.clone()).await.unwrap();
            let replaced = bucket.replace("top", mark, Some(&first)).await.unwrap();
            (
                created == Created::Done,
                matches!(replaced, Replaced::Done(_)),
            )
        }));
    }
    let (mut created, mut replaced) = (0, 0);
    for task in tasks {
        let (one, other) = task.await.unwrap();
        created += usize::from(one);
        replaced += usize::from(other);
    }
    assert_eq!((created, replaced), (1, 1));
}

#[tokio::test]
async fn what_stood_there_before_is_another_version() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = open(directory.path());
    let mut before = None;
    // Files of one length, written quicker than the clock of files goes.
    for count in 0..200 {
        let content = bytes(&format!("{count:03}"));
        let replaced = bucket.replace("top", content, before.as_ref()).await;
        let now = done(replaced.unwrap());
        assert!(before.is_none_or(|before| !before.is_same(&now)));
        before = Some(now);
    }
}

#[tokio::test]
async fn drafts_are_no_objects_and_go_when_they_are_old() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = open(directory.path());
    bucket.put("a", bytes("x")).await.unwrap();
    let (fresh, old) = (
        directory.path().join("a#draft-1"),
        directory.path().join("a#draft-2"),
    );
    std::fs::write(&fresh, "half").unwrap();
    let file = std::fs::File::create(&old).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let found = bucket.list("").await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(fresh.exists() && !old.exists());
}

#[tokio::test]
async fn a_file_where_the_directory_should_be_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let location = Location::parse(file.to_str().unwrap()).unwrap();
    let error = Bucket::open(&location, &BucketOptions::default()).unwrap_err();
    assert!(matches!(error, BucketError::Setup { .. }), "{error}");
    assert!(error.to_string().contains("directory"), "{error}");
}

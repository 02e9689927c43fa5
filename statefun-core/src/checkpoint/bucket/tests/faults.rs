//! One fault at a time. Time is virtual: what is never answered costs nothing.

use super::*;

/// A bucket and another way to the same objects, where nothing fails.
fn pair() -> (Bucket, Bucket, Faults) {
    let memory = Bucket::in_memory();
    let faults = Faults::none();
    (memory.with_faults(&faults), memory, faults)
}

const PASSING: [Fault; 9] = [
    Fault::Refused,
    Fault::ErrorBefore,
    Fault::ErrorAfter,
    Fault::LostBefore,
    Fault::LostAfter,
    Fault::Late(1),
    Fault::Slow(Duration::from_hours(1)),
    Fault::Throttled,
    Fault::Busy,
];

#[tokio::test(start_paused = true)]
async fn what_passes_is_tried_again() {
    for fault in PASSING {
        let (bucket, memory, faults) = pair();
        faults.next(Request::Put, fault);
        bucket.put("a", bytes("x")).await.unwrap();
        assert_eq!(
            memory.get("a").await.unwrap(),
            Some(bytes("x")),
            "{fault:?}"
        );
        faults.next(Request::Get, fault);
        assert_eq!(
            bucket.get("a").await.unwrap(),
            Some(bytes("x")),
            "{fault:?}"
        );
        faults.next(Request::Get, Fault::Truncated);
        assert_eq!(bucket.get_range("a", 0..1).await.unwrap(), bytes("x"));
        faults.next(Request::List, fault);
        assert_eq!(bucket.list("").await.unwrap().len(), 1, "{fault:?}");
        faults.next(Request::Delete, fault);
        bucket.delete("a").await.unwrap();
        faults.land_all().await;
        assert_eq!(memory.get("a").await.unwrap(), None, "{fault:?}");
        assert_eq!(bucket.health().failing, None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_own_creation_whose_answer_was_lost_is_done() {
    for fault in PASSING {
        let (bucket, memory, faults) = pair();
        faults.next(Request::Put, fault);
        let created = bucket.create("a", bytes("ours")).await.unwrap();
        assert_eq!(created, Created::Done, "{fault:?}");
        let second = memory.create("a", bytes("theirs")).await.unwrap();
        assert_eq!(second, Created::Exists, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_after_another_is_none_whatever_fails() {
    for fault in PASSING {
        let (bucket, memory, faults) = pair();
        memory.create("a", bytes("theirs")).await.unwrap();
        faults.next(Request::Put, fault);
        faults.next(Request::Get, fault);
        let created = bucket.create("a", bytes("ours")).await.unwrap();
        assert_eq!(created, Created::Exists, "{fault:?}");
        faults.land_all().await;
        assert_eq!(memory.get("a").await.unwrap(), Some(bytes("theirs")));
    }
}

#[tokio::test(start_paused = true)]
async fn an_own_replacement_whose_answer_was_lost_is_done() {
    for fault in PASSING {
        let (bucket, memory, faults) = pair();
        let first = done(memory.replace("a", bytes("1"), None).await.unwrap());
        faults.next(Request::Put, fault);
        let replaced = bucket.replace("a", bytes("2"), Some(&first)).await;
        let second = done(replaced.unwrap());
        // Its version is that of what is there.
        done(
            memory
                .replace("a", bytes("3"), Some(&second))
                .await
                .unwrap(),
        );
        faults.land_all().await;
        assert_eq!(
            memory.get("a").await.unwrap(),
            Some(bytes("3")),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_someone_else_replaced_is_overtaken() {
    let (bucket, memory, faults) = pair();
    let first = done(memory.replace("a", bytes("1"), None).await.unwrap());
    faults.next(Request::Put, Fault::LostAfter);
    let other = async {
        // While the first waits for its answer.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (there, version) = memory.read_versioned("a").await.unwrap().unwrap();
        assert_eq!(there, bytes("2"));
        memory.replace("a", bytes("3"), Some(&version)).await
    };
    let (ours, theirs) = tokio::join!(bucket.replace("a", bytes("2"), Some(&first)), other);
    done(theirs.unwrap());
    assert!(matches!(ours.unwrap(), Replaced::Overtaken));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_without_a_doubt_is_one() {
    let (bucket, memory, faults) = pair();
    let first = done(memory.replace("a", bytes("1"), None).await.unwrap());
    done(memory.replace("a", bytes("2"), Some(&first)).await.unwrap());
    for fault in [Fault::Refused, Fault::Throttled, Fault::Busy] {
        faults.next(Request::Put, fault);
        // Even if it is the same by chance.
        let ours = bucket.replace("a", bytes("2"), Some(&first)).await;
        assert!(matches!(ours.unwrap(), Replaced::Conflict), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_told_at_once() {
    for (fault, expected) in [
        (Fault::Denied, "not allowed to write `a`"),
        (Fault::NoBucket, "no such bucket"),
    ] {
        let (bucket, _, faults) = pair();
        faults.next(Request::Put, fault);
        let error = bucket.put("a", bytes("x")).await.unwrap_err();
        assert!(!error.is_transient() && !error.is_in_doubt());
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(faults.requests(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_given_up_in_time_and_seen() {
    let (bucket, _, faults) = pair();
    faults.set_down(true);
    let start = tokio::time::Instant::now();
    let error = bucket.create("a", bytes("x")).await.unwrap_err();
    assert!(error.is_transient() && !error.is_in_doubt(), "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");
    let (took, limit) = (start.elapsed(), Retries::default().give_up_after);
    assert!(took >= limit && took < limit * 2, "{took:?}");
    let health = bucket.health();
    let failing = health.failing.unwrap();
    assert_eq!(failing.failures, faults.requests());
    assert_eq!(failing.problem, "connection refused");
    // Not every few milliseconds, and not twice in all.
    assert!((10..100).contains(&health.failures), "{}", health.failures);

    faults.set_down(false);
    bucket.create("a", bytes("x")).await.unwrap();
    let health = bucket.health();
    assert_eq!((health.failing, health.bytes_up), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn giving_up_says_whether_it_may_have_been_done() {
    let (bucket, memory, faults) = pair();
    faults.next(Request::Put, Fault::LostAfter);
    let create = bucket.create("a", bytes("x"));
    let down = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        faults.set_down(true);
    };
    let (created, ()) = tokio::join!(create, down);
    let error = created.unwrap_err();
    assert!(error.is_in_doubt(), "{error}");
    assert!(error.to_string().contains("not known"), "{error}");
    assert_eq!(memory.get("a").await.unwrap(), Some(bytes("x")));
}

#[tokio::test(start_paused = true)]
async fn large_objects_may_take_longer() {
    let (bucket, _, faults) = pair();
    let large = Bytes::from(vec![7; 32 << 20]);
    // 32 MiB at 256 KiB a second are 128 s.
    faults.next(Request::Put, Fault::Slow(Duration::from_mins(2)));
    bucket.put("a", large).await.unwrap();
    faults.next(Request::Put, Fault::Slow(Duration::from_mins(2)));
    bucket.put("b", bytes("x")).await.unwrap();
    assert_eq!(bucket.health().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ignores_conditions_is_found_out() {
    use crate::checkpoint::bucket::objects::{Answer, Opened};

    #[derive(Debug)]
    struct Careless(Bucket);

    impl Objects for Careless {
        fn put<'a>(&'a self, name: &'a str, bytes: Bytes, _: Condition) -> Answer<'a, Version> {
            self.0.inner.store.put(name, bytes, Condition::None)
        }
        fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> Answer<'a, Opened<'a>> {
            self.0.inner.store.get(name, range)
        }
        fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<ObjectInfo>> {
            self.0.inner.store.list(folder)
        }
        fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
            self.0.inner.store.delete(name)
        }
    }

    let memory = Bucket::in_memory();
    memory.check_conditions().await.unwrap();
    let careless = memory.over(Arc::new(Careless(memory.clone())), Retries::default(), None);
    let error = careless.check_conditions().await.unwrap_err();
    assert!(error.to_string().contains("If-None-Match"), "{error}");
    assert!(memory.list("").await.unwrap().is_empty());
}

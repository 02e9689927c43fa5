//! Checkpoints made and restored against a model: rows, output that was not accepted, and what was under way.

mod world;

use super::bucket::{Bucket, Faults};
use super::error::CheckpointError;
use super::manifest::Entry;
use super::operate;
use super::view::CheckpointView;
use crate::state::StateReader as _;
use crate::state::keys::Space;

use world::{Expected, Keeper, Rows, World, key, without_epochs};

#[test]
fn what_is_restored_is_what_was_there() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        let bucket = Bucket::in_memory();
        let mut keeper = Keeper::new(&bucket);
        let mut kept: Vec<(Entry, Expected)> = vec![];
        for _ in 0..40 {
            for _ in 0..world.random.below(6) {
                world.epoch();
            }
            if world.random.below(3) > 0 {
                world.apply();
            }
            if world.random.below(2) == 0
                && let Some(entry) = keeper.make(&world).unwrap()
            {
                assert_eq!(entry.epoch, world.at_apply.epoch);
                kept.push((entry, world.at_apply.clone()));
            }
        }
        let gone = kept.len().saturating_sub(3);
        for (entry, _) in &kept[..gone] {
            assert!(matches!(
                keeper.restore(&entry.id),
                Err(CheckpointError::Unknown { .. })
            ));
        }
        for (entry, expected) in &kept[gone..] {
            let (_, found) = keeper.restore(&entry.id).unwrap();
            assert!(found == without_epochs(expected.clone()), "seed {seed}");
        }
        // Looked at where it is, in pieces of any size, it is the same.
        for (entry, expected) in &kept[gone..] {
            let view = CheckpointView::open(&bucket, keeper.runtime.handle(), &entry.id).unwrap();
            assert_eq!(view.epoch(), expected.epoch);
            let (mut start, mut seen) = (vec![Space::State as u8], Rows::new());
            loop {
                let limit = 1 + world.random.below(50) as usize;
                let some = view.scan(&start, &[], limit).unwrap();
                let Some((last, _)) = some.last() else {
                    break;
                };
                start = [last, &[0][..]].concat();
                if world.random.below(4) == 0 {
                    let key = key(Space::State, 3, world.random.below(60));
                    assert_eq!(view.get(&key).unwrap(), expected.rows.get(&key).cloned());
                    // Another scan in between.
                    view.scan(&key, &[], 1).unwrap();
                }
                seen.extend(some);
            }
            assert!(seen == expected.rows, "seed {seed}");
        }
        let verified = keeper
            .runtime
            .block_on(operate::verify(&bucket, None, |_| {}))
            .unwrap();
        assert!(verified.problems.is_empty(), "{:?}", verified.problems);
        // Nothing is left of those that were dropped.
        let mut live = keeper.ledger.take().unwrap();
        assert_eq!(keeper.runtime.block_on(live.sweep()).unwrap(), 0);
    }
}

#[test]
fn every_damaged_or_missing_object_is_found_and_named() {
    let mut world = World::new(7);
    let bucket = Bucket::in_memory();
    let mut keeper = Keeper::new(&bucket);
    for epochs in [90, 3, 3] {
        for _ in 0..epochs {
            world.epoch();
        }
        world.apply();
        keeper.make(&world).unwrap().unwrap();
    }
    let expected = without_epochs(world.at_apply.clone());
    let (entry, descriptor) = keeper
        .runtime
        .block_on(operate::describe(&bucket, "latest"))
        .unwrap();
    let mut names: Vec<String> = descriptor
        .objects()
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(names.len() > 3, "{names:?}");
    names.push(entry.object.clone());
    for name in names {
        let good = keeper.runtime.block_on(bucket.get(&name)).unwrap().unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            keeper
                .runtime
                .block_on(bucket.put(&name, bad.into()))
                .unwrap();
            let verified = keeper
                .runtime
                .block_on(operate::verify(&bucket, Some("latest"), |_| {}))
                .unwrap();
            assert_eq!(
                verified.problems.len(),
                1,
                "{name} at {at}: {:?}",
                verified.problems
            );
            assert!(
                verified.problems[0].1.to_string().contains(&name),
                "{:?}",
                verified.problems
            );
            match keeper.restore("latest") {
                Err(error) => assert!(error.to_string().contains(&name), "{name} at {at}: {error}"),
                // Headers and indexes that it can do without are not read.
                Ok((_, found)) => {
                    assert!(at != good.len() / 2 && found == expected, "{name} at {at}");
                }
            }
        }
        keeper.runtime.block_on(bucket.delete(&name)).unwrap();
        let verified = keeper
            .runtime
            .block_on(operate::verify(&bucket, Some("latest"), |_| {}))
            .unwrap();
        assert!(
            verified
                .problems
                .iter()
                .any(|(_, error)| error.to_string().contains(&name)),
            "{:?}",
            verified.problems
        );
        let error = keeper.restore("latest").map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(&name), "{name}: {error}");
        keeper.runtime.block_on(bucket.put(&name, good)).unwrap();
    }
    keeper.restore("latest").unwrap();
}

#[test]
fn of_two_writers_one_goes_on_and_the_other_is_told_who() {
    let mut world = World::new(3);
    let bucket = Bucket::in_memory();
    let (mut first, mut second) = (Keeper::new(&bucket), Keeper::new(&bucket));
    world.epoch();
    world.apply();
    first.make(&world).unwrap().unwrap();
    second.make(&world).unwrap().unwrap();
    world.epoch();
    world.apply();
    let error = first.make(&world).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Fenced { writer, .. } if writer.token == second.writer.token),
        "{error}"
    );
    // It has removed nothing that the other one needs.
    second.restore("latest").unwrap();
    second.make(&world).unwrap().unwrap();
    assert!(matches!(
        first.make(&world),
        Err(CheckpointError::Fenced { .. })
    ));
    let mut ledger = first.ledger.take().unwrap();
    assert!(matches!(
        first.runtime.block_on(ledger.sweep()),
        Err(CheckpointError::Fenced { .. })
    ));
    let verified = second
        .runtime
        .block_on(operate::verify(&bucket, None, |_| {}))
        .unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
}

#[test]
fn whatever_requests_fail_nothing_that_is_kept_is_lost() {
    for seed in 0..8 {
        let mut world = World::new(seed);
        let bucket = Bucket::in_memory();
        let faults = Faults::seeded(seed, 400);
        let retries = super::bucket::Retries {
            give_up_after: std::time::Duration::from_millis(4),
            first_pause: std::time::Duration::from_millis(1),
            longest_pause: std::time::Duration::from_millis(1),
            request_timeout: std::time::Duration::from_millis(20),
            ..super::bucket::Retries::default()
        };
        let mut keeper = Keeper::new(&bucket.with_faults(&faults).with_retries(retries));
        let (mut made, mut failed) = (0, 0);
        let mut expected = Expected::default();
        for _ in 0..40 {
            for _ in 0..world.random.below(6) {
                world.epoch();
            }
            world.apply();
            match keeper.make(&world) {
                Ok(Some(_)) => {
                    made += 1;
                    expected = world.at_apply.clone();
                }
                Ok(None) => {}
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    failed += 1;
                }
            }
            let clean = Keeper::new(&bucket);
            let manifest = clean.runtime.block_on(operate::manifest(&bucket)).unwrap();
            if let Some(latest) = manifest.as_ref().and_then(|manifest| manifest.latest()) {
                // One whose last answer was lost may be there all the same.
                assert!(latest.epoch >= expected.epoch);
                let verified = clean
                    .runtime
                    .block_on(operate::verify(&bucket, None, |_| {}))
                    .unwrap();
                assert!(
                    verified.problems.is_empty(),
                    "seed {seed}: {:?}",
                    verified.problems
                );
            }
        }
        assert!(made > 3 && failed > 0, "{made} made, {failed} failed");
        let clean = Keeper::new(&bucket);
        let (restored, found) = clean.restore("latest").unwrap();
        if restored.checkpoint.epoch == expected.epoch {
            assert!(found == without_epochs(expected), "seed {seed}");
        }
    }
}

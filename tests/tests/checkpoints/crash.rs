//! Killed in every step of a checkpoint: what the manifest names is there, and the next start goes on from it.

use std::collections::BTreeSet;

use statefun_core::checkpoint::manifest::Descriptor;
use statefun_core::steps::Step;
use statefun_tests::kill::files::wait_for_records;
use statefun_tests::kill::world::lock;
use statefun_tests::servers::Store;

use crate::support::{Durability, Place, Scene, times};

fn killed_at(steps: &[(Step, u64)], place: Place, durability: Durability) {
    let mut scene = Scene::new(place, durability);
    // Enough for what changes in a moment to be little of it.
    scene.write(1000);
    let mut process = scene.run(&[]);
    wait_for_records(&scene.output(), scene.model().records(), &process);
    let status = process.terminate();
    assert!(status.success(), "{status}\n{}", process.last_words());
    let load = scene.load();
    for round in 0..times(1) {
        for (step, most) in steps {
            let count = if round == 0 {
                *most
            } else {
                1 + scene.random.below(2 * most)
            };
            let mut process = scene.start(&[], Some((*step, count)));
            if let Some(addresses) = process.ready() {
                *lock(&scene.world.addresses) = Some(addresses);
            }
            process.wait();
            process.kill();
            *lock(&scene.world.addresses) = None;
            scene.verify();
            let (before, old) = scene.describe("latest");
            let mut process = scene.run(&[]);
            scene.wait_for_checkpoints(&mut process, 2);
            *lock(&scene.world.addresses) = None;
            process.kill();
            scene.verify();
            let manifest = scene.manifest().unwrap();
            let own = manifest.checkpoints.last().unwrap().start;
            let mut own = manifest
                .checkpoints
                .iter()
                .filter(|entry| entry.start == own);
            // The first one of the new start, unless there were so many that it is gone.
            let first = own.next().unwrap();
            let (_, new) = scene.describe(&first.id);
            let shared = objects(&old).intersection(&objects(&new)).count();
            println!(
                "killed at {} {count}: {} of {} bytes were uploaded by the next start, {shared} objects are those of before",
                step.name(),
                first.uploaded_bytes,
                first.bytes
            );
            assert!(first.epoch > before.epoch);
            assert!(
                shared > 0 && first.uploaded_bytes < first.bytes,
                "it began anew: {first:?} after {before:?}\n{}",
                process.last_words()
            );
        }
    }
    let process = scene.run(&[]);
    scene.lose_machine(process);
    let (process, _) = scene.restore();
    scene.end(load, process);
    scene.assert_swept();
}

fn objects(descriptor: &Descriptor) -> BTreeSet<String> {
    descriptor
        .objects()
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn of_an_upload() {
    let steps = [
        (Step::Uploading, 1),
        (Step::Uploading, 5),
        (Step::Uploaded, 1),
    ];
    killed_at(&steps, Place::server(Store::S3), Durability::Local);
}

#[test]
fn of_a_collection() {
    let steps = [
        (Step::Published, 1),
        (Step::Collected, 1),
        (Step::Published, 4),
    ];
    killed_at(&steps, Place::server(Store::S3), Durability::Local);
}

#[test]
fn of_an_epoch_in_the_store() {
    let steps = [(Step::Completed, 25), (Step::Published, 2)];
    killed_at(&steps, Place::server(Store::S3), Durability::Blob);
}

//! Stores that are away, or slow: processing goes on.

use statefun_core::steps::Step;
use statefun_tests::kill::process::{Patience, wait_for};
use statefun_tests::servers::Store;

use crate::support::{Durability, Place, Scene, times};

const LOG_BYTES: u64 = 1 << 20;

#[test]
fn while_the_store_is_away_processing_goes_on() {
    let mut scene = Scene::new(Place::server(Store::S3), Durability::Local);
    let log_bytes = ("STATEFUN_LOG_MAX_BYTES", LOG_BYTES.to_string());
    scene.environment.push(log_bytes);
    let load = scene.load();
    let mut process = scene.run(&[]);
    scene.wait_for_checkpoints(&mut process, 1);
    let written = |scene: &Scene| std::fs::metadata(scene.output()).map_or(0, |file| file.len());
    scene.server().kill();
    let before = process.steps().count(Step::Published);
    // What is written has been in the log before, with more than that beside it.
    let (enough, mut patience) = (written(&scene) + times(3) * LOG_BYTES, Patience::times(2));
    while written(&scene) < enough {
        let ended = process.ended();
        assert!(ended.is_none(), "{ended:?}\n{}", process.last_words());
        assert!(
            !patience.is_over(),
            "{} bytes of {enough} are written\n{}",
            written(&scene),
            process.last_words()
        );
        scene.write(300);
        scene.wait_for_output(&process, 1200);
    }
    // One may have been about to end when the store did.
    let published = process.steps().count(Step::Published);
    assert!(published <= before + 1, "{published} after {before}");
    scene.server().restart();
    scene.wait_for_checkpoints(&mut process, 1);
    scene.lose_machine(process);
    scene.verify();
    let (process, _) = scene.restore();
    scene.end(load, process);
}

/// A checkpoint is under way as long as this has begun uploads and published nothing.
fn slow(bytes_per_second: u64) -> Scene {
    let mut scene = Scene::new(Place::Directory, Durability::Local);
    scene.environment.push((
        "STATEFUN_CHECKPOINT_MAX_UPLOAD_BYTES_PER_SECOND",
        bytes_per_second.to_string(),
    ));
    scene
}

#[test]
fn slow_uploads_hold_nothing_up() {
    let mut scene = slow(48 << 10);
    scene.write(1500);
    let load = scene.load();
    let mut process = scene.run(&[]);
    let published = |scene: &Scene| {
        scene
            .manifest()
            .map_or(0, |manifest| manifest.checkpoints.len())
    };
    wait_for(
        || (process.steps().count(Step::Uploading) > 1).then_some(()),
        || "an upload".to_owned(),
    );
    scene.wait_for_output(&process, 300);
    assert_eq!(published(&scene), 0, "it was to be slow");
    scene.wait_for_checkpoints(&mut process, 1);
    scene.lose_machine(process);
    let (process, _) = scene.restore();
    scene.end(load, process);
}

#[test]
fn a_stop_does_not_wait_for_a_slow_upload() {
    // Minutes for all that there is.
    let mut scene = slow(1 << 10);
    scene.write(1500);
    let load = scene.load();
    let mut process = scene.run(&[]);
    scene.wait_for_output(&process, 1500 * 4);
    wait_for(
        || (process.steps().count(Step::Uploading) > 1).then_some(()),
        || "an upload".to_owned(),
    );
    let status = process.terminate();
    assert!(status.success(), "{status}\n{}", process.last_words());
    let said = process.said();
    assert!(said.contains("stopped without a last checkpoint"), "{said}");
    // The directory has everything.
    scene.environment.pop();
    let process = scene.run(&[]);
    scene.end(load, process);
}

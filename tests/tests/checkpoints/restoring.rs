//! Restores that are refused, interrupted, repeated, and left to the application to decide on.

use std::time::Duration;

use statefun_tests::kill::process::wait_for;
use statefun_tests::servers::Store;

use crate::support::{Durability, Place, Scene, refusal, times};

const RESTORES: &str = "statefun: restoring from ";

#[test]
fn a_directory_with_state_is_only_replaced_when_one_says_so() {
    let mut scene = Scene::new(Place::Directory, Durability::Local);
    let load = scene.load();
    let mut process = scene.run(&[]);
    scene.wait_for_checkpoints(&mut process, 2);
    process.kill();
    let mut process = scene.start(&["--restore", "latest"], None);
    let said = refusal(&mut process);
    let reason = "data holds state already, which a restore would replace: choose an empty directory, or say `--replace`";
    assert!(said.contains(reason), "{said}");
    assert_eq!(process.wait().code(), Some(1));
    // It was left as it was, and `auto` leaves it alone.
    let mut process = scene.run(&[]);
    scene.wait_for_checkpoints(&mut process, 1);
    process.kill();
    let mut process = scene.run(&["--restore", "auto"]);
    assert!(!process.said().contains(RESTORES), "{}", process.said());
    scene.wait_for_checkpoints(&mut process, 1);
    process.kill();
    let mut process = scene.start(&["--restore", "latest", "--replace"], None);
    if process.ready().is_none() {
        let said = refusal(&mut process);
        scene.cut_off(&said);
    }
    drop(process);
    let process = scene.run(&[]);
    scene.end(load, process);
}

#[test]
fn an_interrupted_restore_is_repeated() {
    let mut scene = Scene::new(Place::server(Store::S3), Durability::Local);
    scene.write(500);
    let load = scene.load();
    let mut process = scene.run(&[]);
    scene.wait_for_output(&process, 2000);
    scene.wait_for_checkpoints(&mut process, 1);
    scene.lose_machine(process);
    let unfinished = scene.machine.join("data/restoring");
    let (mut hit, wanted) = (0, times(2));
    while hit < wanted {
        let mut process = scene.start(&["--restore", "latest"], None);
        wait_for(
            || (unfinished.exists() || process.ended().is_some()).then_some(()),
            || "a restore".to_owned(),
        );
        scene.nap(Duration::from_millis(60));
        drop(process);
        if unfinished.exists() {
            hit += 1;
            let mut process = scene.start(&[], None);
            let said = refusal(&mut process);
            let reason = "data holds a restore that did not end: start again with `--restore`, or remove the directory";
            assert!(said.contains(reason), "{said}");
            assert_eq!(process.wait().code(), Some(1));
        } else {
            // It was too late.
            std::fs::remove_dir_all(scene.machine.join("data")).unwrap();
        }
    }
    let (process, _) = scene.restore();
    assert!(!unfinished.exists());
    // The very end of one: all is there, and nobody knows yet.
    drop(process);
    std::fs::write(&unfinished, "").unwrap();
    let said = refusal(&mut scene.start(&[], None));
    assert!(said.contains("a restore that did not end"), "{said}");
    let mut process = scene.start(&["--restore", "auto"], None);
    if process.ready().is_none() {
        let said = refusal(&mut process);
        scene.cut_off(&said);
    }
    assert!(process.said().contains(RESTORES), "{}", process.said());
    drop(process);
    let process = scene.run(&[]);
    scene.end(load, process);
}

#[test]
fn auto_restores_what_there_is() {
    let mut scene = Scene::new(Place::Directory, Durability::Blob);
    let load = scene.load();
    let auto = ["--restore", "auto"];
    let mut process = scene.run(&auto);
    assert!(!process.said().contains(RESTORES), "{}", process.said());
    for _ in 0..times(2) {
        scene.wait_for_checkpoints(&mut process, 1);
        scene.lose_machine(process);
        process = scene.run(&auto);
        assert!(process.said().contains(RESTORES), "{}", process.said());
    }
    scene.end(load, process);
}

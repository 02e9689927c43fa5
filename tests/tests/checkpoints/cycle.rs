//! Load, checkpoints, `kill -9`, another machine, and so on: on each store, with each durability.

use std::time::Duration;

use statefun_tests::servers::Store;

use crate::support::{Durability, Place, Scene, times};

/// Loses so many machines, in the short run.
fn over_and_over(place: Place, durability: Durability, machines: u64) {
    let mut scene = Scene::new(place, durability);
    let load = scene.load();
    let mut process = scene.run(&[]);
    for machine in 1..=times(machines) {
        scene.wait_for_checkpoints(&mut process, 2);
        scene.nap(Duration::from_millis(700));
        scene.lose_machine(process);
        scene.verify();
        let was_ahead;
        (process, was_ahead) = scene.restore();
        println!("machine {machine}: output was ahead: {was_ahead}");
    }
    scene.wait_for_checkpoints(&mut process, 1);
    scene.end(load, process);
}

#[test]
fn on_s3_files_are_read_again() {
    over_and_over(Place::server(Store::S3), Durability::Local, 2);
}

#[test]
fn on_s3_nothing_acknowledged_is_lost() {
    over_and_over(Place::server(Store::S3), Durability::Blob, 2);
}

#[test]
fn on_azure_files_are_read_again() {
    over_and_over(Place::server(Store::Azure), Durability::Local, 1);
}

#[test]
fn on_azure_nothing_acknowledged_is_lost() {
    over_and_over(Place::server(Store::Azure), Durability::Blob, 1);
}

#[test]
fn on_gcs_files_are_read_again() {
    over_and_over(Place::server(Store::Gcs), Durability::Local, 1);
}

#[test]
fn on_gcs_nothing_acknowledged_is_lost() {
    over_and_over(Place::server(Store::Gcs), Durability::Blob, 1);
}

#[test]
fn in_a_directory_files_are_read_again() {
    over_and_over(Place::Directory, Durability::Local, 1);
}

#[test]
fn in_a_directory_nothing_acknowledged_is_lost() {
    over_and_over(Place::Directory, Durability::Blob, 1);
}

/// The file that was being read at the checkpoint has been rotated since, and all of them are copies on the new machine.
#[test]
fn rotated_files_are_read_again() {
    let mut scene = Scene::new(Place::Directory, Durability::Local);
    let load = scene.load();
    let mut process = scene.run(&[]);
    for _ in 0..times(1) {
        scene.wait_for_checkpoints(&mut process, 2);
        scene.world.rotate();
        scene.write(5);
        scene.world.rotate();
        scene.lose_machine(process);
        (process, _) = scene.restore();
    }
    scene.end(load, process);
}

//! Two processes that both believe they write: one goes on, the other ends and says why, and nothing that was kept is lost.

use std::time::Duration;

use statefun_core::steps::Step;
use statefun_tests::kill::client::Client;
use statefun_tests::kill::files::parse;
use statefun_tests::kill::process::{Process, wait_for};
use statefun_tests::kill::world::{OPS, lock};
use statefun_tests::servers::Store;

use crate::support::{Durability, Place, Scene, copy, refusal, spawn, times};

/// What a process says that must not go on.
const OVERTAKEN: [&str; 3] = [
    "another process has taken over the checkpoints at ",
    "another process has gone on from this history at ",
    "it is an old copy. Remove it, and start with `--restore latest`",
];

fn assert_overtaken(process: &mut Process) {
    let said = refusal(process);
    assert!(
        OVERTAKEN.iter().any(|reason| said.contains(reason)),
        "{said}"
    );
}

/// Both run, each on its own copy of the data directory.
fn of_two_copies_one_goes_on(durability: Durability) {
    let mut scene = Scene::new(Place::server(Store::S3), durability);
    let load = scene.load();
    let mut process = scene.run(&[]);
    for _ in 0..times(1) {
        scene.wait_for_checkpoints(&mut process, 2);
        let kept = scene.manifest().unwrap().checkpoints;
        *lock(&scene.world.addresses) = None;
        process.kill();
        let first_machine = scene.machine.clone();
        scene.new_machine(&["lines.jsonl", "handled.jsonl", "data"]);
        let second_machine = std::mem::replace(&mut scene.machine, first_machine.clone());
        let mut first = scene.start(&[], None);
        scene.machine.clone_from(&second_machine);
        let nap = Duration::from_millis([0, 1500][scene.random.below(2) as usize]);
        std::thread::sleep(nap);
        let mut second = scene.start(&[], None);
        let first_ended = wait_for(
            || {
                let ended = [first.ended().is_some(), second.ended().is_some()];
                ended.contains(&true).then_some(ended[0])
            },
            || "the end of one of two writers".to_owned(),
        );
        let (mut ended, going_on, machine, lost) = if first_ended {
            (first, second, second_machine, first_machine)
        } else {
            (second, first, first_machine, second_machine)
        };
        assert_overtaken(&mut ended);
        println!("the first one has ended: {first_ended}");
        process = going_on;
        scene.machine = machine;
        lock(&scene.world.writer)
            .directories
            .retain(|directory| *directory != lost);
        scene.ready(&mut process);
        scene.wait_for_checkpoints(&mut process, 2);
        // Those of before are there until they are too old, and can be restored as long.
        let manifest = scene.manifest().unwrap();
        assert!(manifest.latest().unwrap().epoch > kept.last().unwrap().epoch);
    }
    scene.end(load, process);
}

#[test]
fn of_two_copies_one_goes_on_and_the_other_ends() {
    of_two_copies_one_goes_on(Durability::Local);
}

#[test]
fn of_two_copies_whose_epochs_are_in_the_store_one_goes_on() {
    of_two_copies_one_goes_on(Durability::Blob);
}

/// The one that was there still runs when a checkpoint is restored elsewhere.
fn restored_elsewhere_ends_the_old_one(durability: Durability) {
    let mut scene = Scene::new(Place::server(Store::S3), durability);
    let load = scene.load();
    let mut old = scene.run(&[]);
    for _ in 0..times(1) {
        scene.wait_for_checkpoints(&mut old, 2);
        let old_machine = scene.machine.clone();
        *lock(&scene.world.addresses) = None;
        scene.new_machine(&["lines.jsonl", "handled.jsonl"]);
        let mut new = scene.start(&["--restore", "latest"], None);
        assert_overtaken(&mut old);
        // What the old one has put out meanwhile comes along when it is needed.
        for _ in 0..2 {
            if new.ready().is_some() {
                break;
            }
            let said = refusal(&mut new);
            if said.contains("put that one in its place") {
                copy(&old_machine.join("handled.jsonl"), &scene.output());
            } else {
                assert_eq!(durability, Durability::Local, "{said}");
                scene.cut_off(&said);
            }
            new = scene.start(&[], None);
        }
        scene.ready(&mut new);
        scene.wait_for_checkpoints(&mut new, 2);
        lock(&scene.world.writer)
            .directories
            .retain(|directory| *directory != old_machine);
        // It does not come back either.
        let new_machine = std::mem::replace(&mut scene.machine, old_machine);
        let mut again = scene.start(&[], None);
        let said = refusal(&mut again);
        assert!(
            said.contains("holds the checkpoints of another history"),
            "{said}"
        );
        scene.machine = new_machine;
        old = new;
    }
    scene.end(load, old);
}

#[test]
fn a_restore_elsewhere_ends_the_old_process() {
    restored_elsewhere_ends_the_old_one(Durability::Local);
}

#[test]
fn a_restore_elsewhere_ends_the_old_process_whose_epochs_are_in_the_store() {
    restored_elsewhere_ends_the_old_one(Durability::Blob);
}

/// The first process sleeps while a second one goes on from a copy of its data directory, further than the first one's epochs are kept. What
/// the first was asked meanwhile never happens.
#[test]
fn nothing_of_a_process_that_has_slept_is_ever_complete() {
    let mut scene = Scene::new(Place::server(Store::S3), Durability::Blob);
    let load = scene.load();
    let mut first = scene.run(&[]);
    for round in 0..times(1) {
        scene.wait_for_checkpoints(&mut first, 1);
        scene.nap(Duration::from_millis(700));
        first.suspend();
        let asleep = lock(&scene.world.addresses).take().unwrap();
        let to = *asleep.get(OPS).unwrap();
        let sleeping_machine = scene.machine.clone();
        scene.new_machine(&["lines.jsonl", "handled.jsonl", "data"]);
        let mut second = scene.run(&[]);
        // From here on nothing may come of what the first one takes.
        let ghosts: Vec<_> = (0..8u64)
            .map(|number| {
                let op = (2 << 40) + (round << 8) + number;
                spawn(move || {
                    let body = format!(r#"{{"op":{op},"source":"ghost","seq":{}}}"#, number + 1);
                    let path = ["/ops", "/ops?wait"][number as usize % 2];
                    let answer = Client::default().post(to, path, None, body.as_bytes());
                    (op, answer)
                })
            })
            .collect();
        scene.wait_for_checkpoints(&mut second, 4);
        let own = second.steps().count(Step::Completed);
        assert!(own > 0, "the second has completed nothing");
        first.resume();
        assert_overtaken(&mut first);
        for ghost in ghosts {
            let (op, answer) = ghost.join().unwrap();
            if let Ok(answer) = answer {
                assert!(
                    !matches!(answer.status, 200 | 202),
                    "operation {op} was acknowledged: {answer:?}\n{}",
                    first.last_words()
                );
            }
        }
        let shown = parse(&std::fs::read(sleeping_machine.join("handled.jsonl")).unwrap());
        assert!(shown.iter().all(|record| record.from != "ghost"));
        lock(&scene.world.writer)
            .directories
            .retain(|directory| *directory != sleeping_machine);
        scene.lose_machine(second);
        scene.verify();
        (first, _) = scene.restore();
    }
    // The model has no ghosts.
    scene.end(load, first);
}

//! Restores behind output that had been released: what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use statefun_tests::kill::files::{MODULE, count_lines, parse, wait_for_records};
use statefun_tests::kill::process::wait_for;
use statefun_tests::kill::world::{Clients, Load, lock};
use statefun_tests::servers::Store;

use crate::receiver;
use crate::support::{Durability, Place, Scene};

/// The output stays behind: a new file begins with what no file had.
fn without_the_file(place: Place, durability: Durability) {
    let mut scene = Scene::new(place, durability);
    let load = Load::start(&scene.world, scene.seed(), Clients::default());
    let mut process = scene.run(&[]);
    scene.wait_for_checkpoints(&mut process, 2);
    scene.wait_for_output(&process, 200);
    let old_output = scene.output();
    process.kill();
    scene.new_machine(&["lines.jsonl"]);
    let (_, descriptor) = scene.describe("latest");
    let mut process = scene.run(&["--restore", "latest"]);
    // The new file has begun, and nobody knows how far it is.
    scene.nap(Duration::from_millis(300));
    process.kill();
    let process = scene.run(&[]);
    load.end();
    let model = scene.model();
    scene.world.check_nodes(&model, &process);
    let old = std::fs::read(old_output).unwrap();
    wait_for_records(&scene.output(), 1, &process);
    let kept = match durability {
        Durability::Local => {
            // Nothing when no output had been accepted by then.
            let offset = |position: &[u8]| {
                let position: serde_json::Value = serde_json::from_slice(position).ok()?;
                position["offset"].as_u64()
            };
            let sink = descriptor.tail.sinks.first();
            sink.and_then(|sink| offset(&sink.position)).unwrap_or(0) as usize
        }
        Durability::Blob => {
            // What had been released comes as it was.
            let new = std::fs::read(scene.output()).unwrap();
            let end = new.iter().position(|byte| *byte == b'\n').unwrap();
            let first = &new[..=end];
            let kept = old.windows(first.len()).position(|some| some == first);
            let kept = kept.unwrap_or(old.len());
            let both = old[kept..].len().min(new.len());
            assert!(
                old[kept..][..both] == new[..both],
                "what was released has changed"
            );
            kept
        }
    };
    let mut all = old[..kept].to_vec();
    let before = parse(&all).len();
    println!("{kept} of {} bytes are of before", old.len());
    wait_for_records(&scene.output(), model.records() - before, &process);
    let mut process = process;
    let status = process.terminate();
    assert!(status.success(), "{status}\n{}", process.last_words());
    assert_eq!(count_lines(&scene.output()), model.records() - before);
    all.extend(std::fs::read(scene.output()).unwrap());
    std::fs::write(scene.output(), all).unwrap();
    scene.check_output(&model);
}

#[test]
fn a_machine_without_the_file_begins_a_new_one() {
    without_the_file(Place::Directory, Durability::Local);
}

#[test]
fn a_machine_without_the_file_whose_epochs_are_in_the_store_begins_a_new_one() {
    without_the_file(Place::server(Store::S3), Durability::Blob);
}

/// What a webhook has sent since the checkpoint it sends again, as something new.
#[test]
fn a_webhook_repeats_under_keys_of_the_new_lineage() {
    let (address, received) = receiver::start();
    let mut scene = Scene::new(Place::Directory, Durability::Local);
    let (wiring, _) = MODULE
        .split_once("---\nkind: io.statefun.file.v1/egress")
        .unwrap();
    let webhook = format!(
        "{wiring}---\nkind: io.statefun.http.v1/egress\nspec:\n  id: kill/handled\n  url: http://{address}/hook\n  keyFrom: {{pointer: /to}}\n"
    );
    std::fs::write(scene.machine.join("module.yaml"), webhook).unwrap();
    let load = Load::start(&scene.world, scene.seed(), Clients::default());
    let mut process = scene.run(&[]);
    scene.wait_for_checkpoints(&mut process, 2);
    process.kill();
    // No more checkpoints.
    let interval = ("STATEFUN_CHECKPOINT_INTERVAL", "1h".to_owned());
    scene.environment.push(interval);
    let process = scene.run(&[]);
    let count = lock(&received).len();
    wait_for(
        || (lock(&received).len() > count + 300).then_some(()),
        || format!("more requests\n{}", process.last_words()),
    );
    let old_lineage = scene.manifest().unwrap().writer.lineage;
    scene.lose_machine(process);
    let (mut process, _) = scene.restore();
    load.end();
    let model = scene.model();
    scene.world.check_nodes(&model, &process);
    let new_lineage = scene.manifest().unwrap().writer.lineage;
    assert_ne!(old_lineage, new_lineage);
    let status = process.terminate();
    assert!(status.success(), "{status}\n{}", process.last_words());

    // A receiver that remembers keys sees each record once in each lineage.
    let mut by_key = BTreeMap::new();
    for (key, record) in lock(&received).iter() {
        let before = by_key.insert(key.clone(), record.clone());
        assert!(
            before.is_none_or(|before| before == *record),
            "two records have the key {key}"
        );
    }
    let of = |lineage: u64| {
        let begins = format!("{lineage:016x}-");
        let mut seen = BTreeSet::new();
        for (_, record) in by_key.iter().filter(|(key, _)| key.starts_with(&begins)) {
            assert!(
                seen.insert((record.op, record.path)),
                "{record:?} came twice"
            );
        }
        seen
    };
    let (old, new) = (of(old_lineage), of(new_lineage));
    assert_eq!(old.len() + new.len(), by_key.len());
    let repeated = old.intersection(&new).count();
    println!("{repeated} of {} records were repeated", old.len());
    assert!(repeated > 0);
    assert_eq!(old.union(&new).count(), model.records());
}

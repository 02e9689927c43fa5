//! Objects that are gone or not what they were: whoever reads them says which.

use statefun_tests::kill::world::lock;
use statefun_tests::servers::Store;

use crate::support::{Durability, Place, Scene, refusal};

#[test]
fn what_is_damaged_or_missing_is_named() {
    let mut scene = Scene::new(Place::server(Store::S3), Durability::Local);
    scene.write(300);
    let load = scene.load();
    let mut process = scene.run(&[]);
    scene.wait_for_output(&process, 1000);
    scene.wait_for_checkpoints(&mut process, 2);
    scene.lose_machine(process);
    let (entry, descriptor) = scene.describe("latest");
    let mut names = vec![entry.object.clone()];
    let base = descriptor.bases.first().and_then(|base| base.parts.first());
    names.extend(base.map(|part| part.object.clone()));
    let delta = descriptor
        .deltas
        .last()
        .and_then(|delta| delta.parts.first());
    names.extend(delta.map(|part| part.object.clone()));
    names.extend(descriptor.tail.carried.map(|carried| carried.object));
    names.extend(
        descriptor
            .tail
            .egress
            .last()
            .map(|egress| egress.object.object.clone()),
    );
    println!("{names:?}");
    let bucket = scene.bucket();
    for name in names {
        let good = scene.block_on(bucket.get(&name)).unwrap().unwrap();
        let mut flipped = good.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x04;
        scene.block_on(bucket.put(&name, flipped.into())).unwrap();
        assert_found(&mut scene, &name);
        scene.block_on(bucket.delete(&name)).unwrap();
        assert_found(&mut scene, &name);
        scene.block_on(bucket.put(&name, good)).unwrap();
    }
    scene.verify();
    let (process, _) = scene.restore();
    scene.end(load, process);
}

fn assert_found(scene: &mut Scene, name: &str) {
    let problems = scene.problems();
    assert!(
        problems
            .iter()
            .any(|(_, error)| error.to_string().contains(name)),
        "{name}: {problems:?}"
    );
    *lock(&scene.world.addresses) = None;
    let mut process = scene.start(&["--restore", "latest"], None);
    let said = refusal(&mut process);
    assert!(said.contains(name), "{name}: {said}");
    // What is there now is no data directory.
    let said = refusal(&mut scene.start(&["--restore", "latest"], None));
    assert!(said.contains(name), "{name}: {said}");
}

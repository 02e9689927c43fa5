//! Containers that are started wrongly.

use crate::podman::{Podman, said, wait_for};

#[test]
fn a_module_yaml_that_does_not_fit_is_refused_with_findings() {
    let Some(podman) = Podman::with_image() else {
        return;
    };
    let greeter = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/greeter/module.yaml"
    );
    let wiring = std::fs::read_to_string(greeter).unwrap();
    assert!(wiring.contains("- greets\n"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("module.yaml");
    std::fs::write(&file, wiring.replace("- greets\n", "- greetz\n")).unwrap();
    let mount = format!("{}:/app/module.yaml:ro", file.display());
    let run = podman.run(&["--rm", "-v", &mount, "-v", "data:/data"], &[]);
    assert_eq!(run.status.code(), Some(1), "{}", said(&run));
    let told = said(&run);
    for part in [
        "\"there is no router `greetz`\"",
        "\"code\":\"SF0303\",\"file\":\"/app/module.yaml\",\"line\":9,",
        "did you mean `greets`?",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(
        !podman.file("data", ".statefun").exists(),
        "nothing was begun"
    );

    // One that fits takes the place of the image's.
    std::fs::write(&file, wiring.replace("/greet\n", "/elsewhere\n")).unwrap();
    let checked = podman.run(
        &[
            "--rm",
            "-v",
            &mount,
            "-d",
            "--name",
            "other",
            "-e",
            "GREETER_PORT=0",
        ],
        &[],
    );
    assert!(checked.status.success());
    let logs = || said(&podman.call(&["logs", "other"]));
    wait_for("what it listens on", logs, || {
        logs().contains("/elsewhere").then_some(())
    });
}

#[test]
fn a_role_that_does_not_exist_is_refused() {
    let Some(podman) = Podman::with_image() else {
        return;
    };
    let run = podman.run(&["--rm", "-e", "ROLE=master"], &[]);
    assert_eq!(run.status.code(), Some(1));
    let told = said(&run);
    assert!(
        told.contains("ROLE=master") && told.contains("`standalone`"),
        "{told}"
    );
    assert!(told.contains("There are no clusters"), "{told}");
}

//! What a container of the image is like.

use std::path::Path;
use std::process::Command;

use statefun_core::clock::Stopwatch;
use statefun_tests_registry::{is_there, skipped};

use crate::load::greeted;
use crate::made::made;
use crate::podman::{Podman, free_port, said};

const MAX_IMAGE_BYTES: u64 = 30_000_000;
/// A first reply that takes longer means that something is wrong, and not that the machine is busy.
const MAX_FIRST_REPLY_MS: u64 = 20_000;

#[test]
fn the_image_is_small() {
    let bytes = folder_bytes(&made().layout);
    println!("compressed: {:.1} MB", bytes as f64 / 1e6);
    assert!(bytes < MAX_IMAGE_BYTES);
    if !is_there("umoci") {
        skipped("there is no `umoci` here, so the unpacked image is not measured");
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bundle = folder.path().join("bundle");
    let image = format!("{}:0.1.0", made().layout.display());
    let unpacked = Command::new("umoci")
        .args(["unpack", "--rootless", "--image", &image])
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(unpacked.status.success(), "{}", said(&unpacked));
    let bytes = folder_bytes(&bundle.join("rootfs"));
    println!("unpacked: {:.1} MB", bytes as f64 / 1e6);
    assert!(bytes < MAX_IMAGE_BYTES);
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => folder_bytes(&entry.path()),
            kind if kind.is_file() => entry.metadata().unwrap().len(),
            _ => 0,
        })
        .sum()
}

/// Milliseconds since the machine was started; the system counts in hundredths of a second.
fn uptime_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    (text.split(' ').next().unwrap().parse::<f64>().unwrap() * 1000.0) as u64
}

/// When a process was started, in the same count.
fn started_ms(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Field 22; the name before it may hold spaces.
    let field = stat.rsplit(')').next().unwrap().split_whitespace().nth(19);
    field.unwrap().parse::<u64>().unwrap() * 10
}

#[test]
fn the_first_reply_comes_soon_after_the_start() {
    let Some(podman) = Podman::with_image() else {
        return;
    };
    for volume in ["first", "second"] {
        let port = free_port();
        let (listen, mount) = (format!("GREETER_PORT={port}"), format!("{volume}:/data"));
        let before = uptime_ms();
        let (replied, run) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                greeted(port, "ada", "first");
                uptime_ms()
            });
            let run = podman.run(&["-d", "--name", volume, "-e", &listen, "-v", &mount], &[]);
            (asked.join().unwrap(), run)
        });
        assert!(run.status.success(), "{}", said(&run));
        let process = podman.ok(&["inspect", "--format", "{{.State.Pid}}", volume]);
        let started = started_ms(process.parse().unwrap());
        println!(
            "first reply {} ms after the start of the process, which came {} ms after the call of podman",
            replied - started,
            started.saturating_sub(before)
        );
        assert!(replied - started < MAX_FIRST_REPLY_MS);
    }
}

#[test]
fn the_process_is_not_root_and_writes_to_the_volume_alone() {
    let Some(podman) = Podman::with_image() else {
        return;
    };
    let greeter = podman.start("data");
    greeted(greeter.port, "ada", "1");
    let process = greeter.process();
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap();

    let status = read("status");
    let line = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
    };
    assert_eq!(line("Uid:"), "65532\t65532\t65532\t65532");
    assert_eq!(line("Gid:"), "65532\t65532\t65532\t65532");
    assert_eq!(line("CapEff:"), "0000000000000000");

    // Fields 5 and 6: where, and with what options.
    let mounts = read("mountinfo");
    let options = |place: &str| {
        let mut mounts = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        mounts
            .find(|mount| mount[4] == place)
            .map(|mount| mount[5].to_owned())
            .expect(place)
    };
    assert!(
        options("/").split(',').any(|option| option == "ro"),
        "{mounts}"
    );
    assert!(
        options("/data").split(',').any(|option| option == "rw"),
        "{mounts}"
    );

    let written = std::fs::read_dir(podman.file("data", "")).unwrap();
    let mut written: Vec<_> = written
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    assert_eq!(written, [".statefun", "emails.jsonl"]);
}

#[test]
fn arguments_are_those_of_the_application() {
    let Some(podman) = Podman::with_image() else {
        return;
    };
    let watch = Stopwatch::start();
    let described = podman.run(&["--rm"], &["describe"]);
    println!(
        "a container that ends at once takes {} ms",
        watch.elapsed().as_millis()
    );
    assert!(described.status.success(), "{}", said(&described));
    let description: serde_json::Value = serde_json::from_slice(&described.stdout).unwrap();
    assert_eq!(description["functions"][1]["typename"], "example/greeter");
}

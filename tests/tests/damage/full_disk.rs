//! A full disk: nothing is taken in, whoever asks is told so, and when there is space everything goes on where it was.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use statefun_core::rand::Random;
use statefun_tests::kill::process::{Patience, wait_for};

use crate::support::{App, Running, assert_says, file_egress, http_ingress, new_key};

fn wiring() -> String {
    let types = ["load/Put", "load/Query"];
    http_ingress("load/puts", "/{id}/{type}", &types, "load/counter")
        + &file_egress("load/lines", "lines.jsonl")
}

const MIB: usize = 1 << 20;

/// A file system of its own, in memory and small.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where the system does not let one mount.
    fn mount(at: PathBuf, bytes: usize) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"])
            .arg(&at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at)),
            refused => {
                // Past the test's capture, so that it is seen.
                let _ = writeln!(
                    std::io::stderr(),
                    "\n*** SKIPPED: a full disk cannot be tested, since nothing may be mounted here: {refused:?}\n"
                );
                None
            }
        }
    }

    fn resize(&self, bytes: usize) {
        let resized = Command::new("mount")
            .args(["-o", &format!("remount,size={bytes}")])
            .arg(&self.0)
            .status();
        assert!(resized.unwrap().success());
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves no more than so much space.
    fn fill_up(&self, leave: usize) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(leave as u64)).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while a process that fails still has files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Clients of one process after another, which repeat each message under its key until it is taken.
struct Clients {
    random: Random,
    ids: u64,
    /// Messages taken, and the sum of their numbers, by id.
    taken: BTreeMap<String, (u64, u64)>,
    sent: u64,
    /// The message that has no answer yet.
    open: Option<(String, String, String)>,
    refused: u64,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Taken,
    /// The disk is full.
    Full,
}

impl Clients {
    fn new(ids: u64) -> Self {
        Self {
            random: Random::from_system(),
            ids,
            taken: BTreeMap::new(),
            sent: 0,
            open: None,
            refused: 0,
        }
    }

    /// Bytes that do not get smaller when they are compressed.
    fn payload(&mut self, bytes: usize) -> String {
        let mut payload = String::with_capacity(bytes);
        for _ in 0..bytes / 16 {
            let _ = write!(payload, "{:016x}", self.random.next_u64());
        }
        payload
    }

    fn put(&mut self, running: &mut Running, bytes: usize) -> Outcome {
        if self.open.is_none() {
            self.sent += 1;
            let n = self.sent;
            let id = format!("a{}", n % self.ids);
            let body = format!(r#"{{"n":{n},"payload":"{}"}}"#, self.payload(bytes));
            self.open = Some((id, format!("k{n}"), body));
        }
        let (id, key, body) = self.open.clone().unwrap();
        let answer = running.insist("load/puts", &format!("/{id}/Put"), &key, &body);
        match answer.status {
            202 => {
                let taken = self.taken.entry(id).or_default();
                *taken = (taken.0 + 1, taken.1 + self.sent);
                self.open = None;
                Outcome::Taken
            }
            503 => {
                assert!(
                    answer.head.to_ascii_lowercase().contains("retry-after: "),
                    "{}",
                    answer.head
                );
                assert_says(&answer.text(), &["full"]);
                self.refused += 1;
                Outcome::Full
            }
            _ => panic!(
                "{}: {}\n{}",
                answer.status,
                answer.text(),
                running.process.last_words()
            ),
        }
    }

    /// Puts until the disk is full, and is still so a few times later.
    fn put_until_full(&mut self, running: &mut Running, bytes: usize) {
        let mut patience = Patience::default();
        let mut in_a_row = 0;
        while in_a_row < 5 {
            match self.put(running, bytes) {
                Outcome::Taken => in_a_row = 0,
                Outcome::Full => in_a_row += 1,
            }
            assert!(!patience.is_over(), "the disk is never full");
        }
    }

    /// Puts so many, through all times of a full disk.
    fn put_all(&mut self, running: &mut Running, count: u64, bytes: usize) {
        let (mut patience, until) = (Patience::default(), self.sent + count);
        while self.sent < until || self.open.is_some() {
            if self.put(running, bytes) == Outcome::Full {
                assert!(
                    !patience.is_over(),
                    "it does not go on\n{}",
                    running.process.last_words()
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Every message has taken effect once: in the state, and in the lines.
    fn check(&self, app: &App, running: &mut Running) {
        assert!(self.open.is_none());
        for (id, (count, sum)) in &self.taken {
            let seen = query(running, id);
            assert_eq!(
                (seen["count"].as_u64(), seen["sum"].as_u64()),
                (Some(*count), Some(*sum)),
                "{id}"
            );
        }
        let all: u64 = self.taken.values().map(|(count, _)| count).sum();
        let lines = || app.records::<serde_json::Value>("lines.jsonl");
        wait_for(
            || (lines().len() as u64 >= all).then_some(()),
            || format!("{} of {all} lines", lines().len()),
        );
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for line in lines() {
            let count = counts
                .entry(line["id"].as_str().unwrap().to_owned())
                .or_default();
            *count += 1;
            assert_eq!(line["count"].as_u64(), Some(*count), "{line}");
        }
        let expected: BTreeMap<String, u64> = self
            .taken
            .iter()
            .map(|(id, (count, _))| (id.clone(), *count))
            .collect();
        assert_eq!(counts, expected);
    }
}

fn times_heard(running: &Running, what: &str) -> usize {
    running.process.said().matches(what).count()
}

/// Waits until the process says something.
fn hear(running: &Running, what: &str) {
    hear_again(running, what, 0);
}

/// Waits until the process says something more than so many times.
fn hear_again(running: &Running, what: &str, before: usize) {
    wait_for(
        || (times_heard(running, what) > before).then_some(()),
        || format!("it does not say `{what}`\n{}", running.process.last_words()),
    );
}

fn applied(running: &Running) -> (u64, u64) {
    let (_, status) = running.admin("GET", "/v1/status");
    let epoch = |name: &str| status["epochs"][name].as_u64().unwrap();
    (epoch("applied"), epoch("durable"))
}

/// Waits until the state store has everything that is durable now.
fn wait_until_applied(running: &Running) {
    let (_, goal) = applied(running);
    wait_for(
        || (applied(running).0 >= goal).then_some(()),
        || format!("{:?}\n{}", applied(running), running.process.last_words()),
    );
}

#[test]
fn everything_on_a_disk_that_is_full() {
    let mut app = App::new("load", &wiring());
    let Some(disk) = SmallDisk::mount(app.path().join("disk"), 32 * MIB) else {
        return;
    };
    app.set_data(disk.0.join("data"));
    let mut clients = Clients::new(50);
    let mut running = app.start();
    for round in 0..3 {
        clients.put_all(&mut running, 100, 1000);
        disk.fill_up(64 << 10);
        clients.put_until_full(&mut running, 8000);
        hear(&running, "nothing is taken in until");
        wait_for(
            || {
                let (status, missing) = running.health();
                (status == 503 && missing.contains("free some space")).then_some(())
            },
            || format!("a probe sees nothing of it: {:?}", running.health()),
        );
        if round == 1 {
            // A kill while it is full, and a start that finds it full.
            running.kill();
            disk.free();
            running = app.start();
            clients.put_all(&mut running, 10, 1000);
            disk.fill_up(0);
            clients.put_until_full(&mut running, 8000);
        }
        disk.free();
        clients.put_all(&mut running, 100, 1000);
        clients.check(&app, &mut running);
        wait_for(
            || (running.health().0 == 200).then_some(()),
            || format!("a probe does not see the end: {:?}", running.health()),
        );
    }
    println!("{} refusals, {} messages", clients.refused, clients.sent);
    // Of the log, or of the state store: whichever met it first.
    let said = running.process.said();
    assert!(
        said.contains("there is space again") || said.contains("takes changes again"),
        "{said}"
    );
    running.kill();
    let mut running = app.start();
    clients.check(&app, &mut running);
    running.stop();
}

#[test]
fn a_stop_and_a_start_while_the_disk_is_full() {
    let mut app = App::new("load", &wiring());
    let Some(disk) = SmallDisk::mount(app.path().join("disk"), 24 * MIB) else {
        return;
    };
    app.set_data(disk.0.join("data"));
    let mut clients = Clients::new(20);
    let mut running = app.start();
    clients.put_all(&mut running, 60, 1000);
    disk.fill_up(0);
    clients.put_until_full(&mut running, 8000);
    // Where something is under way that cannot become durable, the stop says so and does not wait for ever. Where the state store
    // alone has met the full disk, and the log has not, all that was taken in is durable.
    let status = running.process.terminate();
    let said = running.process.said();
    if said.contains("nothing is taken in until there is space") {
        assert_eq!(status.code(), Some(2), "{said}");
        assert_says(&said, &["stopped while the disk is full"]);
    } else {
        assert_eq!(status.code(), Some(0), "{said}");
        assert_says(&said, &["until the state store has space"]);
    }
    drop(running);
    // A start may do without space, or says what is missing.
    let mut process = app.run();
    let _ = process.ready();
    if let Some(status) = process.ended() {
        let said = process.said().replace(['\n', '|', ' '], "");
        println!("{}", process.last_words());
        assert!(status.code().is_some_and(|code| code > 0), "{said}");
        assert!(
            said.contains("Nospaceleftondevice") && said.contains("space"),
            "{said}"
        );
    } else {
        process.kill();
    }
    drop(process);
    disk.free();
    let mut running = app.start();
    clients.put_all(&mut running, 60, 1000);
    clients.check(&app, &mut running);
    running.stop();
}

/// What an address has seen. While a merge lacks space nothing is taken in, here as in [`Clients::put_all`].
fn query(running: &mut Running, id: &str) -> serde_json::Value {
    let mut patience = Patience::default();
    loop {
        let path = format!("/{id}/Query?wait");
        let answer = running.insist("load/puts", &path, &new_key(), "{}");
        if answer.status != 503 || patience.is_over() {
            assert_eq!(answer.status, 200, "{}", answer.text());
            return serde_json::from_slice(&answer.body).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An application whose state store alone is on a small disk.
fn with_small_store(bytes: usize) -> Option<(App, SmallDisk)> {
    let app = App::new("load", &wiring());
    let disk = SmallDisk::mount(app.data().join("state"), bytes)?;
    Some((app, disk))
}

#[test]
fn the_state_store_has_no_space_to_apply() {
    let Some((mut app, disk)) = with_small_store(6 * MIB) else {
        return;
    };
    app.environment = vec![("STATEFUN_STATE_APPLY_AFTER", "100ms".to_owned())];
    let mut clients = Clients::new(100_000);
    let mut running = app.start();
    clients.put_until_full(&mut running, 8000);
    hear(&running, "no space is left for the state store in");
    hear(
        &running,
        "nothing is taken in until the state store has space",
    );
    let mut size = 6;
    for _ in 0..3 {
        size += 8;
        let again = "the state store takes changes again";
        let before = times_heard(&running, again);
        disk.resize(size * MIB);
        hear_again(&running, again, before);
        clients.put_until_full(&mut running, 8000);
        println!("{} messages on {size} MiB", clients.sent);
    }
    // Killed, and started on the full disk: either it is told, or it holds again.
    running.kill();
    let mut process = app.run();
    let _ = process.ready();
    match process.ended() {
        Some(status) => {
            println!("{}", process.last_words());
            assert_eq!(status.code(), Some(2), "{}", process.last_words());
            assert!(process.said().contains("no space is left"));
        }
        None => process.kill(),
    }
    drop(process);
    disk.resize(200 * MIB);
    let mut running = app.start();
    clients.put_all(&mut running, 200, 8000);
    clients.check(&app, &mut running);
    running.stop();
}

#[test]
fn the_state_store_has_no_space_to_merge_its_tables() {
    let Some((mut app, disk)) = with_small_store(16 * MIB) else {
        return;
    };
    app.environment = vec![
        ("STATEFUN_STATE_APPLY_AFTER", "100ms".to_owned()),
        ("STATEFUN_LOG", "debug".to_owned()),
    ];
    // Together 3 MiB, which a merge writes anew: twice as much as there is space for. A twentieth of them fits several times.
    let (ids, bytes) = (100, 32_000);
    let mut clients = Clients::new(ids);
    let mut running = app.start();
    clients.put_all(&mut running, ids, bytes);
    wait_until_applied(&running);
    // Until there is neither a merge under way nor a table that it has left behind: both would give back space later. The first
    // start after a merge finds it so.
    wait_for(
        || {
            running.process.kill();
            running = app.start();
            (tables(&disk.0) < 5).then_some(())
        },
        || format!("{} tables", tables(&disk.0)),
    );
    disk.fill_up(3 * MIB / 2);
    let full = "nothing is taken in until the state store has space";
    let again = "the state store takes changes again";
    // Each apply is a table more, and a few bring about a merge.
    for _ in 0..5 {
        for _ in 0..ids / 20 {
            if clients.put(&mut running, bytes) == Outcome::Full {
                break;
            }
        }
        let (_, goal) = applied(&running);
        wait_for(
            || (applied(&running).0 >= goal || times_heard(&running, full) > 0).then_some(()),
            || running.process.last_words(),
        );
    }
    hear(&running, full);
    hear_again(&running, "the state store has failed again", 1);
    assert_eq!(clients.put(&mut running, bytes), Outcome::Full);
    assert_eq!(times_heard(&running, again), 0);
    disk.free();
    hear(&running, again);
    assert_eq!(times_heard(&running, full), 1);
    // Merging goes on: what these rounds write would not fit on the disk side by side.
    for _ in 0..5 {
        clients.put_all(&mut running, ids, bytes);
        wait_until_applied(&running);
    }
    println!("{} bytes after 5 rounds", store_bytes(&disk.0));
    clients.check(&app, &mut running);
    running.kill();
    let mut running = app.start();
    clients.check(&app, &mut running);
    running.stop();
}

/// How many tables of rows the store has.
fn tables(store: &Path) -> usize {
    std::fs::read_dir(store.join("keyspaces/1/tables")).map_or(0, Iterator::count)
}

/// What the files in a directory occupy.
fn store_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .filter_map(|entry| {
            // Files come and go.
            let entry = entry.ok()?;
            let metadata = entry.metadata().ok()?;
            Some(if metadata.is_dir() {
                store_bytes(&entry.path())
            } else {
                metadata.blocks() * 512
            })
        })
        .sum()
}

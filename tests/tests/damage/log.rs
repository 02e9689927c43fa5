//! The epoch log after a kill: a torn end is no harm, damage before it is named.

use std::path::PathBuf;

use statefun_core::rand::Random;

use crate::support::{App, Running, assert_says, puts_and_lines};

const SECTOR: usize = 512;
const HEADER: usize = 72;

/// A record, as the log's format describes it.
#[derive(Debug, Clone)]
struct Record {
    path: PathBuf,
    offset: usize,
    /// Bytes, header included.
    bytes: usize,
    is_epoch: bool,
    attempt: u64,
    epoch: u64,
}

impl Record {
    fn edit(&self, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut content = std::fs::read(&self.path).unwrap();
        edit(&mut content);
        std::fs::write(&self.path, content).unwrap();
    }

    /// Whether its bytes are whole.
    fn place(&self, at: usize) -> usize {
        self.offset + at
    }
}

/// All records of a log, in order. What is left of older uses of a segment names another place, or an older attempt.
fn records(app: &App) -> Vec<Record> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(app.data().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    paths.sort();
    let mut found: Vec<Record> = Vec::new();
    for path in paths {
        let content = std::fs::read(&path).unwrap();
        let number: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        for offset in (0..content.len()).step_by(SECTOR) {
            let at = |from: usize| {
                let field = content.get(offset + from..offset + from + 8);
                u64::from_le_bytes(field.unwrap_or(&[0; 8]).try_into().unwrap())
            };
            if content[offset..].starts_with(b"SFEL") && at(16) == number && at(24) == offset as u64
            {
                found.push(Record {
                    path: path.clone(),
                    offset,
                    bytes: HEADER + at(8) as usize,
                    is_epoch: content[offset + 6] == 2,
                    attempt: at(40),
                    epoch: at(48),
                });
            }
        }
    }
    assert!(
        found.is_sorted_by_key(|record| (record.attempt, record.epoch)),
        "{found:#?}"
    );
    found
}

/// What a client knows.
#[derive(Default)]
struct Client {
    /// Messages whose replies have come.
    done: u64,
}

impl Client {
    /// Sends message after message, each again under its key until its reply has come, up to a number; false when the process
    /// went away.
    fn put(&mut self, running: &mut Running, until: u64) -> bool {
        while self.done < until {
            let n = self.done + 1;
            let (key, body) = (format!("k{n}"), format!(r#"{{"n":{n}}}"#));
            match running.post("load/puts", "/put/a?wait", Some(&key), &body) {
                Ok(answer) => {
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let seen: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                    assert_eq!(
                        (seen["count"].as_u64(), seen["sum"].as_u64()),
                        (Some(n), Some(n * (n + 1) / 2))
                    );
                    self.done = n;
                }
                Err(_) => return false,
            }
        }
        true
    }
}

/// Each message has left one line, in order.
fn assert_lines(app: &App, count: u64) {
    let lines: Vec<serde_json::Value> = app.records("lines.jsonl");
    let counts: Vec<u64> = lines
        .iter()
        .map(|line| line["count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, (1..=count).collect::<Vec<_>>());
}

type Tear = fn(&Record, &mut Vec<u8>);

/// What a power cut makes of a record that is being written.
const TEARS: [(&str, Tear); 7] = [
    ("nothing of it", |record, content| {
        content[record.offset..record.offset + record.bytes].fill(0);
    }),
    ("its header only", |record, content| {
        content[record.place(HEADER)..record.offset + record.bytes].fill(0);
    }),
    ("not its header", |record, content| {
        content[record.offset..record.place(HEADER)].fill(0);
    }),
    ("its first half", |record, content| {
        content[record.place(record.bytes / 2)..record.offset + record.bytes].fill(0);
    }),
    ("what was there before", |record, content| {
        let end = record.offset + record.bytes;
        for (place, byte) in content[record.place(HEADER + 5)..end]
            .iter_mut()
            .enumerate()
        {
            *byte = place as u8 ^ 0x5a;
        }
    }),
    ("a file cut off in its middle", |record, content| {
        content.truncate(record.place(record.bytes / 2));
    }),
    ("a file cut off before it", |record, content| {
        content.truncate(record.offset);
    }),
];

#[test]
fn a_torn_end_is_given_up_and_nothing_acknowledged_is_lost() {
    let mut app = App::new("load", &puts_and_lines());
    let mut client = Client::default();
    let mut random = Random::from_system();
    for (round, (what, tear)) in TEARS.iter().enumerate() {
        // Written and not synced: nobody has been told of it.
        let count = 4 + random.below(30);
        app.environment = vec![("STATEFUN_TEST_KILL", format!("written:{count}"))];
        let mut running = app.start();
        let went_on = client.put(&mut running, 1000 * (round as u64 + 1));
        assert!(!went_on, "it was to be killed");
        running.kill();
        let last = records(&app).pop().unwrap();
        assert!(last.is_epoch, "{last:?}");
        last.edit(|content| tear(&last, content));

        app.environment.clear();
        let mut running = app.start();
        let said = running.process.said();
        println!("{what} of epoch {}, {} bytes", last.epoch, last.bytes);
        assert!(
            said.contains(&format!("continues behind epoch {}", last.epoch - 1)),
            "{what} of {last:?}\n{said}"
        );
        let more = client.done + 5;
        assert!(
            client.put(&mut running, more),
            "{}",
            running.process.last_words()
        );
        running.kill();
    }
    let mut running = app.start();
    let more = client.done + 1;
    assert!(client.put(&mut running, more));
    running.stop();
    assert_lines(&app, client.done);
}

/// The places of a record where a byte may flip.
fn places(record: &Record, random: &mut Random) -> Vec<(&'static str, usize)> {
    let body = random.below((record.bytes - HEADER) as u64) as usize;
    vec![
        ("magic", record.offset),
        ("length", record.place(8)),
        ("segment", record.place(16)),
        ("offset", record.place(24)),
        ("lineage", record.place(32)),
        ("attempt", record.place(40)),
        ("epoch", record.place(48)),
        ("checksum before", record.place(56)),
        ("checksum", record.place(64)),
        ("body", record.place(HEADER + body)),
    ]
}

fn flip(path: &std::path::Path, place: usize, bit: u8) {
    let mut content = std::fs::read(path).unwrap();
    content[place] ^= bit;
    std::fs::write(path, content).unwrap();
}

fn log_files(app: &App) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(app.data().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .filter(|(path, _)| !path.ends_with("lock"))
        .collect();
    files.sort();
    files
}

#[test]
fn a_flipped_byte_in_the_middle_is_named_and_nothing_is_touched() {
    let mut app = App::new("load", &puts_and_lines());
    // What was applied already would tell of the damage as well.
    app.environment = vec![("STATEFUN_STATE_APPLY_AFTER", "1h".to_owned())];
    let mut client = Client::default();
    let mut running = app.start();
    assert!(client.put(&mut running, 30));
    running.kill();
    let mut random = Random::from_system();
    let all: Vec<Record> = records(&app)
        .into_iter()
        .filter(|record| record.is_epoch)
        .collect();
    assert!(all.len() > 20, "{}", all.len());
    let before = log_files(&app);
    // Not the last one: there it is the torn end of a crash.
    let middle = &all[1 + random.below(all.len() as u64 - 2) as usize];
    for (what, place) in places(middle, &mut random) {
        let bit = 1 << random.below(8);
        flip(&middle.path, place, bit);
        let (code, said) = app.refused(&[]);
        println!("{what}: {said}");
        assert_eq!(code, 2, "{what}: {said}");
        // Paths are broken at the ends of lines.
        let said = said.replace(' ', "");
        let path = middle.path.display().to_string();
        let offset = format!("isdamagedatbyte{}:", middle.offset);
        assert_says(&said, &[&path, &offset, "nothingwaschanged"]);
        flip(&middle.path, place, bit);
        assert!(before == log_files(&app), "{what}: the log has changed");
    }
    let mut running = app.start();
    let more = client.done + 3;
    assert!(client.put(&mut running, more));
    running.stop();
    assert_lines(&app, client.done);
}

#[test]
fn a_lost_end_that_the_state_contains_is_refused() {
    let mut app = App::new("load", &puts_and_lines());
    let mut client = Client::default();
    let mut running = app.start();
    assert!(client.put(&mut running, 20));
    running.stop();
    // The start has applied everything.
    app.start().kill();
    let last = records(&app)
        .into_iter()
        .rfind(|record| record.is_epoch)
        .unwrap();
    let good = std::fs::read(&last.path).unwrap();
    last.edit(|content| content[last.offset..].fill(0));
    let (code, said) = app.refused(&[]);
    assert_eq!(code, 2, "{said}");
    assert_says(
        &said,
        &["the state contains epochs up to", "its end is lost"],
    );
    std::fs::write(&last.path, good).unwrap();
    let mut running = app.start();
    assert!(client.put(&mut running, 25));
    running.stop();
    assert_lines(&app, client.done);
}

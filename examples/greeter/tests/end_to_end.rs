//! The application as it runs: a process, HTTP, a file, `kill -9`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../process.rs"]
mod process;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use process::{Application, PATIENCE, PAUSE, post};

/// Sends a greeting until it is answered: the process may be dead at the moment.
fn greet_for_sure(port: u16, key: &str, body: &str) {
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        match post(port, "/greet", Some(key), body) {
            Ok((202, _)) => return,
            Ok((429 | 503, _)) | Err(_) => std::thread::sleep(PAUSE),
            Ok(other) => panic!("{other:?}"),
        }
    }
    panic!("{key} is never answered");
}

#[test]
fn every_greeting_is_written_exactly_once() {
    const USERS: u32 = 4;
    const VISITS: u32 = 60;
    let mut app = Application::start(|directory, port| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greeter"));
        // There is module.yaml.
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("GREETER_PORT", port.to_string())
            .env("GREETER_EMAILS", directory.join("emails.jsonl"));
        command
    });
    let port = app.port();
    let emails = app.path("emails.jsonl");
    let lines = || fs::read_to_string(&emails).map_or(0, |text| text.lines().count());
    std::thread::scope(|scope| {
        for user in 0..USERS {
            scope.spawn(move || {
                for visit in 0..VISITS {
                    let body = format!(r#"{{"user_id":"user-{user}","first_name":"U"}}"#);
                    greet_for_sure(port, &format!("{user}-{visit}"), &body);
                }
            });
        }
        for enough in [30, 120] {
            app.until("there are more lines", |_| {
                (lines() >= enough).then_some(())
            });
            app.kill_and_start_again();
        }
    });
    // One more visit of each is answered by what was counted.
    for user in 0..USERS {
        let body = format!(r#"{{"user_id":"user-{user}","first_name":"U"}}"#);
        let (status, answer) =
            post(port, "/greet?wait", Some(&format!("{user}-last")), &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        assert!(
            answer.contains(&format!(r#""seen":{}"#, VISITS + 1)),
            "{answer}"
        );
    }
    // What cannot be read is refused, and changes nothing.
    let (status, answer) = post(port, "/greet", Some("bad"), r#"{"user":1}"#).unwrap();
    assert_eq!(status, 400, "{answer}");
    app.stop();

    let text = fs::read_to_string(&emails).unwrap();
    for user in 0..USERS {
        let own = format!(r#""to":"user-{user}""#);
        let numbers: Vec<u32> = text
            .lines()
            .filter(|line| line.contains(&own))
            .map(number)
            .collect();
        let expected: Vec<u32> = (1..=VISITS + 1).collect();
        assert_eq!(numbers, expected, "user {user}");
    }
    assert_eq!(text.lines().count() as u32, USERS * (VISITS + 1));
}

/// Requests from standard input, e-mails to standard output.
const PIPES: &str = "
kind: io.statefun.stdio.v1/ingress
spec:
  id: example/greets
  valueType: example/GreetRequest
  routers: [greets]
---
kind: io.statefun.stdio.v1/egress
spec:
  id: example/emails
";
const REQUEST: &[u8] = b"{\"user_id\":\"bob\",\"first_name\":\"Bob\"}\n";

fn between_pipes(directory: &Path) -> Command {
    fs::write(directory.join("module.yaml"), PIPES).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_greeter"));
    command
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// As `greeter | head -1`.
#[test]
fn who_stops_reading_ends_it_in_peace_and_the_rest_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = between_pipes(directory.path()).spawn().unwrap();
    let mut input = first.stdin.take().unwrap();
    let mut output = BufReader::new(first.stdout.take().unwrap());
    input.write_all(REQUEST).unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(number(&line), 1, "{line}");
    drop(output);
    // It finds out when it has more to say. The input stays open.
    let mut looks = PATIENCE.as_millis() / PAUSE.as_millis();
    while first.try_wait().unwrap().is_none() {
        // It may have ended meanwhile.
        let _ = input.write_all(REQUEST);
        looks = looks.checked_sub(1).expect("it goes on for nobody");
        std::thread::sleep(PAUSE);
    }
    let ended = first.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}: {said}", ended.status);
    assert!(
        said.contains("nobody reads") && !said.contains("error"),
        "{said}"
    );

    let mut second = between_pipes(directory.path()).spawn().unwrap();
    let mut input = second.stdin.take().unwrap();
    input.write_all(REQUEST).unwrap();
    drop(input);
    let ended = second.wait_with_output().unwrap();
    assert!(ended.status.success());
    let numbers: Vec<u32> = String::from_utf8(ended.stdout)
        .unwrap()
        .lines()
        .map(number)
        .collect();
    // What nobody read comes first, at least one line, and then the new one. At least once: the first may be among them.
    assert!(numbers.len() > 1 && numbers[0] <= 2, "{numbers:?}");
    assert!(
        numbers.windows(2).all(|two| two[0] + 1 == two[1]),
        "{numbers:?}"
    );
}

/// As an image has it: the wiring in one place, the data in another.
#[test]
fn the_wiring_may_lie_elsewhere() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("module.yaml"), PIPES).unwrap();
    fs::write(home.path().join("statefun.yaml"), "dataDir: kept\n").unwrap();
    let data = tempfile::tempdir().unwrap();
    let output = starting(
        data.path(),
        &[
            ("STATEFUN_HOME", home.path().to_str().unwrap()),
            ("ROLE", ""),
        ],
    );
    assert!(output.status.success(), "{output:?}");
    assert!(data.path().join("kept").is_dir());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);

    let output = starting(data.path(), &[("STATEFUN_HOME", "nowhere")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("no module.yaml in nowhere (STATEFUN_HOME)"),
        "{said}"
    );
}

/// As when another module.yaml is mounted over that of an image.
#[test]
fn wiring_that_does_not_fit_the_code_is_refused_with_what_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    let changed = PIPES.replace("[greets]", "[gretes]");
    fs::write(home.path().join("module.yaml"), changed).unwrap();
    let data = tempfile::tempdir().unwrap();
    let output = starting(
        data.path(),
        &[("STATEFUN_HOME", home.path().to_str().unwrap())],
    );
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    for expected in ["error[SF", "gretes", "module.yaml:6", "`greets`"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0, "it began");
}

#[test]
fn there_is_one_role() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("module.yaml"), PIPES).unwrap();
    for role in ["master", "worker"] {
        let output = starting(directory.path(), &[("ROLE", role)]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(&format!("ROLE={role}")) && said.contains("`standalone`"),
            "{said}"
        );
    }
    let output = starting(directory.path(), &[("ROLE", "standalone")]);
    assert!(output.status.success(), "{output:?}");
}

/// Starts it with an empty input, in a directory.
fn starting(directory: &Path, environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_greeter"))
        .current_dir(directory)
        .env("STATEFUN_LOG_FORMAT", "human")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The number of the visit that an e-mail is about.
fn number(line: &str) -> u32 {
    let (_, rest) = line.split_once(r#""number":"#).unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}

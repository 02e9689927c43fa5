//! A second process on a data directory.

use crate::support::{App, assert_says, puts_and_lines};

#[test]
fn a_second_process_is_refused_and_the_first_goes_on() {
    let mut app = App::new("load", &puts_and_lines());
    let mut first = app.start();
    let put = r#"{"n":1}"#;
    for expected in 1..=3 {
        let seen: serde_json::Value = first.call("load/puts", "/put/a", put);
        assert_eq!(seen["count"], expected);
        let (code, said) = app.refused(&[]);
        assert_eq!(code, 1, "{said}");
        let directory = app.data().display().to_string();
        let holder = format!("is in use by process {}", first.process.id());
        assert_says(&said, &[&directory, &holder, "stop that process"]);
    }
    // Its socket was not taken over either.
    let (status, answer) = first.admin("GET", "/v1/status");
    assert_eq!(
        (status, answer["pid"].as_u64()),
        (200, Some(first.process.id().into()))
    );
    first.kill();
    // A dead process holds nothing.
    let mut next = app.start();
    let seen: serde_json::Value = next.call("load/puts", "/put/a", put);
    assert_eq!(seen["count"], 4);
    next.stop();
}

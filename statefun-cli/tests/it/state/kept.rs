//! Reading checkpoints where they are.

use super::app::{Running, data_dir, export, fill, shop};

#[test]
fn a_checkpoint_is_shown_and_compared_where_it_is() {
    let files = shop().with("statefun.yaml", "checkpoint:\n  url: kept\n");
    let running = Running::start(&files);
    fill(&running);
    let then = export(&files, &data_dir(&files));
    files.statefun(&["checkpoint", "create", "monday"]).ends(0);
    running.put("counts", "n", "x", 10);
    running.put("counts", "m", "x", 1);
    let exported = files
        .statefun(&["state", "export", "--checkpoint", "monday"])
        .ends(0);
    assert_eq!(exported.stdout, then);
    assert!(
        exported.stderr.contains("from checkpoint "),
        "{}",
        exported.stderr
    );
    let got = files
        .statefun(&[
            "state",
            "get",
            "shop/counter",
            "n",
            "--checkpoint",
            "latest",
            "--format",
            "json",
        ])
        .ends(0);
    assert!(got.stdout.contains("\"count\":9"), "{}", got.stdout);
    let ls = files
        .statefun(&["state", "ls", "--checkpoint", "monday", "--format", "json"])
        .ends(0);
    assert_eq!(ls.stdout.lines().count(), 2);

    let changes = |arguments: &[&str]| {
        let output = files.statefun(arguments).ends(0);
        let mut lines: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let expected = [
        r#"{"function":"shop/counter","id":"m","state":"count","change":"added","after":1}"#,
        r#"{"function":"shop/counter","id":"n","state":"count","change":"changed","before":9,"after":10}"#,
    ];
    let since = ["state", "diff", "checkpoint:monday", "--format", "json"];
    assert_eq!(changes(&since), expected);
    files.statefun(&["checkpoint", "create", "tuesday"]).ends(0);
    running.stop();
    assert_eq!(changes(&since), expected);
    let between = [
        "state",
        "diff",
        "checkpoint:monday",
        "checkpoint:tuesday",
        "--format",
        "json",
    ];
    assert_eq!(changes(&between), expected);

    let none = files
        .statefun(&["state", "ls", "--checkpoint", "sunday"])
        .ends(1);
    assert!(none.stderr.contains("sunday"), "{}", none.stderr);
    files
        .statefun(&["state", "import", "x", "--checkpoint", "monday"])
        .ends(2);
    let elsewhere = [
        "state",
        "ls",
        "--checkpoint",
        "latest",
        "--checkpoint-url",
        "nowhere",
    ];
    files.statefun(&elsewhere).ends(1);
}

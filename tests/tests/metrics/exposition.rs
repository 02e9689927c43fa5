//! METRICS.md and `/metrics` name the same metrics, with the same kinds and labels.

use std::collections::{BTreeMap, BTreeSet};

use statefun_tests::kill::client::Client;
use statefun_tests::kill::process::wait_for;

use crate::support::{get, metrics, start};

const WIRING: &str = "\
kind: io.statefun.http.v1/ingress
spec:
  id: load/puts
  address: 127.0.0.1:0
  path: /put/{id}
  valueTypes: [load/Put]
  targets: [load/counter]
---
kind: io.statefun.file.v1/ingress
spec:
  id: load/more
  path: more.jsonl
  valueType: load/Put
  idFrom: {pointer: /id}
  onError: skip
  targets: [load/counter]
---
kind: io.statefun.file.v1/egress
spec:
  id: load/lines
  path: lines.jsonl
";

/// Kind and labels, by name.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// What the table lists.
fn documented() -> Metrics {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../statefun-core/METRICS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3]
            .split(',')
            .map(|label| label.trim().trim_matches('`'));
        let labels = labels.filter(|label| !label.is_empty());
        let name = cells[1].trim_matches('`').to_owned();
        (
            name,
            (cells[2].to_owned(), labels.map(str::to_owned).collect()),
        )
    })
    .collect()
}

/// What was printed: the labels of each metric are those of all its lines.
fn printed(text: &str) -> Metrics {
    let mut kinds = BTreeMap::new();
    let mut found = Metrics::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(
                kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{name} twice"
            );
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            let name = name.strip_suffix(end)?;
            (kinds.get(name).map(String::as_str) == Some("histogram")).then_some(name)
        });
        let name = of_histogram.unwrap_or(name);
        let kind = kinds
            .get(name)
            .unwrap_or_else(|| panic!("no type before {line}"));
        let (_, all) = found
            .entry(name.to_owned())
            .or_insert_with(|| (kind.clone(), BTreeSet::new()));
        let labels = labels.trim_end_matches('}').split("\",");
        let labels = labels.filter_map(|label| label.split_once("=\""));
        all.extend(
            labels
                .map(|(label, _)| label.to_owned())
                .filter(|label| label != "le"),
        );
    }
    found
}

#[test]
fn the_table_is_what_a_process_prints() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("module.yaml"), WIRING).unwrap();
    std::fs::write(
        directory.path().join("more.jsonl"),
        "{\"id\": \"a\", \"n\": 1}\nno json\n",
    )
    .unwrap();
    let checkpoints = directory.path().join("checkpoints");
    let environment = vec![
        ("STATEFUN_CHECKPOINT_URL", checkpoints.display().to_string()),
        ("STATEFUN_CHECKPOINT_INTERVAL", "100ms".to_owned()),
        ("DAMAGE_APP", "load".to_owned()),
        // A collector that is not there: spans are counted all the same.
        ("STATEFUN_TRACING_ENDPOINT", "http://127.0.0.1:1".to_owned()),
    ];
    let (mut process, addresses, endpoint) = start(
        env!("CARGO_BIN_EXE_damage-app"),
        directory.path(),
        environment,
    );
    let mut client = Client::default();
    let to = addresses["load/puts"];
    for turn in 0..20 {
        let path = format!("/put/id-{turn}");
        let body = format!("{{\"n\": {turn}}}");
        let answer = client.post(to, &path, None, body.as_bytes()).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    let documented = documented();
    assert!(documented.len() > 40, "{documented:?}");
    let answer = client.post(to, "/put/id-7", None, b"no json").unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    // What needs a checkpoint, an applied epoch or a count of timers comes a little later.
    let text = wait_for(
        || {
            let text = metrics(endpoint);
            let is_all = printed(&text).len() == documented.len();
            (is_all && !text.contains("statefun_checkpoints_total 0\n")).then_some(text)
        },
        || {
            let printed = printed(&metrics(endpoint));
            let missing: Vec<&String> = documented
                .keys()
                .filter(|name| !printed.contains_key(*name))
                .collect();
            format!("missing: {missing:?}\n{}", process.last_words())
        },
    );
    assert_eq!(printed(&text), documented);
    for expected in [
        "statefun_ingress_records_total{ingress=\"load/puts\"} 20\n",
        "statefun_ingress_records_total{ingress=\"load/more\"} 2\n",
        "statefun_ingress_refused_total{ingress=\"load/puts\"} 1\n",
        "statefun_ingress_refused_total{ingress=\"load/more\"} 1\n",
        "statefun_ingress_lag_bytes{ingress=\"load/more\"} 0\n",
        "statefun_function_in_total{function=\"load/counter\"} 21\n",
        "statefun_function_errors_total{function=\"load/counter\"} 0\n",
        "statefun_epoch_part_seconds_count{part=\"upload\"} 0\n",
        "statefun_hold{reason=\"disk_full\"} 0\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    // No address is named where anybody may look.
    assert!(!text.contains("id-7"));
    let (status, _, json) = get(endpoint, "/v1/metrics");
    assert_eq!(status, 200);
    assert!(json.contains("\"function\":\"load/counter\""), "{json}");
    assert!(process.terminate().success(), "{}", process.last_words());
}

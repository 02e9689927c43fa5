//! Views of made samples: as people see them, and as scripts read them.

use insta::assert_snapshot;
use serde_json::Value;
use statefun_core::admin::Status;
use statefun_core::checkpoint::{CheckpointProblem, CheckpointStatus};
use statefun_core::metrics::{
    EgressMetrics, EpochMetrics, FunctionMetrics, Histogram, HotAddress, Hottest, IngressMetrics,
    Lag, ProcessMetrics, Snapshot, StateMetrics, WorkerMetrics,
};

use super::draw::{Page, draw};
use super::help::help;
use super::lines::{Line, Look};
use super::sample::Sample;
use super::view::View;
use super::{History, json};
use crate::args::TopSort;
use crate::table::width;

const PLAIN: Look = Look {
    color: false,
    unicode: true,
};

fn page(columns: usize, rows: Option<usize>) -> Page {
    Page {
        columns,
        rows,
        sort: TopSort::In,
        source: ".statefun/data".to_owned(),
        trouble: None,
    }
}

fn written(lines: &[Line], columns: usize) -> String {
    let mut text = String::new();
    for line in lines {
        let line = line.written(columns, PLAIN);
        assert!(width(&line) <= columns, "wider than {columns}: {line}");
        assert!(!line.contains(crate::table::is_obeyed), "{line:?}");
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn shown(view: &View, page: &Page) -> String {
    let lines = draw(view, page);
    if let Some(rows) = page.rows {
        assert!(lines.len() <= rows, "{} lines in {rows} rows", lines.len());
    }
    written(&lines, page.columns)
}

/// So many observations around a time, and as many hundredths of them at ten times that.
fn around(seconds: f64, count: u64) -> Histogram {
    let bounds: Vec<f64> = (-7..=1)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
        .collect();
    let mut counts = vec![0; bounds.len() + 1];
    let of = |seconds: f64| bounds.iter().position(|bound| seconds <= *bound).unwrap();
    counts[of(seconds)] += count;
    counts[of(seconds * 10.0)] += count / 50;
    Histogram {
        bounds,
        counts,
        sum: seconds * count as f64,
    }
}

fn function(name: &str, invocations: u64) -> FunctionMetrics {
    FunctionMetrics {
        function: name.to_owned(),
        invocations,
        out_local: invocations / 2,
        out_remote: invocations / 2,
        handler_seconds: around(0.000_001, invocations),
        ..FunctionMetrics::default()
    }
}

/// An application under load, so many seconds after its start.
fn busy(seconds: u64) -> Sample {
    let functions = vec![
        FunctionMetrics {
            errors: 3 * seconds,
            out_egress: 12_000 * seconds,
            backlog: 17,
            handler_seconds: around(0.000_8, 12_345 * seconds),
            inflight_async: 9,
            ..function("example/email-sender", 12_345 * seconds)
        },
        function("example/greeter", 1_234_567 * seconds),
        function("example/idle", 0),
    ];
    let ingress = |name: &str, records: u64, lag| IngressMetrics {
        ingress: name.to_owned(),
        records: records * seconds,
        refused: 0,
        lag,
    };
    let egress = |name: &str, records: u64, waits: u64| EgressMetrics {
        egress: name.to_owned(),
        records: records * seconds,
        failures: seconds * waits / 100,
        outbox_age_ms: waits,
        outbox_epochs: waits / 10,
    };
    let worker = WorkerMetrics {
        queue: 1_200,
        in_transit: 300,
        feedback: 600_000 * seconds,
        cache_hits: 600_000 * seconds,
        cache_misses: 40 * seconds,
        cache_bytes: 700 << 20,
        blocked: 0,
        expired: 100 * seconds,
        dead_letters: 0,
    };
    let hot = |id: &str, share: f64, rate: f64| HotAddress {
        function: "example/greeter".to_owned(),
        id: id.to_owned(),
        share,
        rate,
    };
    Sample {
        status: Status {
            core_version: "0.1.0".to_owned(),
            pid: 4711,
            attempt: 3,
            workers: 2,
            ..Status::default()
        },
        metrics: Snapshot {
            taken_ms: 1_800_000_000_000 + seconds * 1000,
            uptime_ms: seconds * 1000,
            functions,
            ingresses: vec![
                ingress("example/greets", 800_000, Some(Lag::Records(12_345))),
                ingress("example/lines", 2_000, Some(Lag::Bytes(3 << 20))),
                ingress("example/typed", 1, None),
            ],
            egresses: vec![
                egress("example/emails", 12_000, 0),
                egress("example/hooks", 10, 2_300),
            ],
            workers: vec![worker.clone(), worker],
            timers: Some(80_000),
            epochs: EpochMetrics {
                durable: 612 * seconds,
                applied: 612 * seconds - 700,
                in_flight: 1,
                seconds: around(0.001_2, 612 * seconds),
                fsync_seconds: around(0.000_4, 612 * seconds),
                ..EpochMetrics::default()
            },
            state: StateMetrics {
                log_bytes: 812 << 20,
                log_written_bytes: seconds * (12 << 20),
                flush_lag_ms: 1_200,
            },
            checkpoints: Some(CheckpointStatus {
                url: "s3://bucket/shop".to_owned(),
                interval_ms: 60_000,
                latest: Some(entry(1_800_000_000_000 + seconds * 1000 - 12_345)),
                latest_took_ms: 234,
                made: 10,
                uploaded_bytes: 100 << 20,
                ..CheckpointStatus::default()
            }),
            process: ProcessMetrics {
                resident_bytes: 1_288_490_189,
                cpu_seconds: 1.43 * seconds as f64,
                open_fds: 87,
                max_fds: 1024,
                threads: 21,
                start_seconds: 1_800_000_000.0,
                ..ProcessMetrics::default()
            },
            hottest: Hottest {
                by_time: vec![hot("bob", 0.12, 0.11), hot("ada", 0.031, 0.02)],
                by_bytes: vec![
                    hot("bob", 0.4, 1_300_000.0),
                    hot("carol", 0.1, 300_000.0),
                    hot("dan", 0.000_1, 300.0),
                ],
            },
            traces: None,
            own: Vec::new(),
        },
    }
}

fn entry(created_ms: u64) -> statefun_core::checkpoint::manifest::Entry {
    serde_json::from_value(serde_json::json!({
        "id": "7-1", "lineage": "0000000000000001", "start": "0000000000000002", "epoch": 7, "createdMs": created_ms,
        "object": "checkpoints/7-1.json", "checksum": "0000000000000003", "bytes": 3_565_158, "uploadedBytes": 65_536,
    }))
    .unwrap()
}

/// As it is before anything happens.
fn idle(seconds: u64) -> Sample {
    Sample {
        status: Status {
            pid: 1,
            workers: 1,
            ..Status::default()
        },
        metrics: Snapshot {
            taken_ms: seconds * 1000,
            uptime_ms: seconds * 1000,
            functions: vec![function("example/greeter", 0)],
            ingresses: vec![IngressMetrics {
                ingress: "example/greets".to_owned(),
                ..IngressMetrics::default()
            }],
            ..Snapshot::default()
        },
    }
}

/// Parked and retried addresses, nothing taken in, checkpoints that fail.
fn troubled(seconds: u64) -> Sample {
    let mut sample = busy(seconds);
    let metrics = &mut sample.metrics;
    metrics.functions[0].parked = 3;
    metrics.functions[0].retrying = 1;
    metrics.epochs.holds = vec!["disk_full".to_owned(), "log_full".to_owned()];
    metrics.workers[0].blocked = seconds;
    metrics.workers[1].dead_letters = 2;
    metrics.process.open_fds = 1_000;
    let checkpoints = metrics.checkpoints.as_mut().unwrap();
    checkpoints.failed = 4;
    checkpoints.under_way_ms = Some(3_400);
    checkpoints.problem = Some(CheckpointProblem {
        since_ms: metrics.taken_ms - 200_000,
        error: "the blob store does not answer:\n\u{1b}[31mconnection refused (os error 111) at s3.example.com, port 443"
            .to_owned(),
    });
    sample
}

fn seen(then: &Sample, now: &Sample) -> View {
    View::between(Some(then), now)
}

#[test]
fn an_idle_application() {
    let view = seen(&idle(10), &idle(11));
    assert_snapshot!("idle_80", shown(&view, &page(80, Some(23))));
}

#[test]
fn a_busy_one() {
    let view = seen(&busy(100_000), &busy(100_002));
    assert_snapshot!("busy_80", shown(&view, &page(80, Some(23))));
    assert_snapshot!("busy_120", shown(&view, &page(120, None)));
}

#[test]
fn one_in_trouble() {
    let view = seen(&troubled(1_000), &troubled(1_002));
    assert_snapshot!("troubled_80", shown(&view, &page(80, Some(23))));
    let trouble = "no application runs on the data directory .statefun/data; trying again";
    let page = Page {
        trouble: Some(trouble.to_owned()),
        ..page(120, None)
    };
    assert_snapshot!("troubled_120", shown(&view, &page));
}

#[test]
fn what_has_no_room_is_counted() {
    let with = |seconds| {
        let mut sample = busy(seconds);
        for number in 0..30 {
            let name = format!("a-team/of-department-{number:02}/with-a-very-long-function-name");
            sample
                .metrics
                .functions
                .push(function(&name, (number + 1) * seconds));
        }
        sample
    };
    let view = seen(&with(1_000), &with(1_001));
    assert_snapshot!("long_80", shown(&view, &page(80, Some(23))));
    for (columns, rows) in [(1, 1), (20, 5), (40, 10), (60, 24), (300, 100)] {
        shown(&view, &page(columns, Some(rows)));
    }
}

#[test]
fn a_terminal_obeys_no_name() {
    let with = |seconds| {
        let mut sample = busy(seconds);
        let metrics = &mut sample.metrics;
        metrics.hottest.by_time[0].id = "evil\u{1b}[2J\u{9b}1m\r\n".to_owned();
        metrics.hottest.by_bytes[0].id = "日本語の住所がとても長いとき".to_owned();
        metrics.hottest.by_bytes[1].id = "left\u{202e}thgir".to_owned();
        metrics.functions[1].function = "example/挨拶".to_owned();
        metrics.epochs.holds = vec!["\u{7}new".to_owned()];
        sample
    };
    let view = seen(&with(1_000), &with(1_001));
    assert_snapshot!("unsafe_80", shown(&view, &page(80, Some(24))));
    let line = json(&view).unwrap();
    assert!(line.ends_with("}\n"));
    assert!(
        !line.trim_end().contains(crate::table::is_obeyed),
        "{line:?}"
    );
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        read["hottest"]["by_time"][0]["id"],
        "evil\u{1b}[2J\u{9b}1m\r\n"
    );
}

#[test]
fn what_the_columns_mean_fits() {
    assert_snapshot!("help_80", written(&help(80), 80));
}

#[test]
fn the_shape_of_the_json() {
    let view = seen(&troubled(1_000), &troubled(1_002));
    let pretty: Value = serde_json::from_str(&json(&view).unwrap()).unwrap();
    assert_snapshot!("json", serde_json::to_string_pretty(&pretty).unwrap());
    // An idle application has the same names.
    let idle: Value = serde_json::from_str(&json(&seen(&idle(1), &idle(2))).unwrap()).unwrap();
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&idle), names(&pretty));
    assert_eq!(names(&idle["functions"][0]), names(&pretty["functions"][0]));
    assert_eq!(idle["functions"][0]["handler_p50_ms"], Value::Null);
    assert_eq!(idle["checkpoints"], Value::Null);
}

#[test]
fn rates_are_differences() {
    let view = seen(&busy(100), &busy(104));
    assert_eq!(view.interval_ms, Some(4_000));
    let greeter = &view.functions[1];
    assert_eq!(greeter.in_per_second, Some(1_234_567.0));
    assert_eq!(view.epochs.per_second, Some(612.0));
    assert_eq!(
        view.process.cpu_cores.map(|cores| (cores * 100.0).round()),
        Some(143.0)
    );
    assert_eq!(view.workers.cache_hit_share, Some(600_000.0 / 600_040.0));
    assert_eq!(view.log.flush_lag_epochs, 700);
    assert_eq!(view.ingresses[1].lag_bytes, Some(3 << 20));
    // Latencies are of the interval, whatever was before it.
    let mut slow_before = busy(100);
    slow_before.metrics.epochs.seconds = around(5.0, 10);
    let mut now = busy(104);
    now.metrics.epochs.seconds = around(5.0, 10);
    let quick = around(0.001_2, 100);
    for (count, more) in now
        .metrics
        .epochs
        .seconds
        .counts
        .iter_mut()
        .zip(&quick.counts)
    {
        *count += more;
    }
    let view = seen(&slow_before, &now);
    assert!(view.epochs.p99_ms.unwrap() < 100.0, "{:?}", view.epochs);
}

#[test]
fn a_function_that_is_new_begins_with_nothing() {
    let mut then = busy(100);
    then.metrics
        .functions
        .retain(|one| one.function != "example/greeter");
    let mut now = busy(102);
    now.metrics.functions[1].invocations = 20;
    let view = seen(&then, &now);
    assert_eq!(view.functions[1].in_per_second, Some(10.0));
}

#[test]
fn another_process_has_no_rates_yet() {
    let mut again = busy(5);
    again.status.attempt += 1;
    let mut same_pid = busy(5);
    same_pid.metrics.process.start_seconds += 1_000.0;
    for now in [&again, &same_pid, &busy(5)] {
        let mut history = History::default();
        assert_eq!(history.view(busy(100)).interval_ms, None);
        let view = history.view(now.clone());
        assert_eq!(view.interval_ms, None);
        assert_eq!(view.functions[0].in_per_second, None);
        assert_eq!(view.functions[0].handler_p50_ms, None);
        assert_eq!(view.process.cpu_cores, None);
        assert_eq!(view.workers.feedback_per_second, None);
        assert!(shown(&view, &page(80, None)).contains('–'));
        // From then on it is compared with itself.
        let mut later = now.clone();
        later.metrics.uptime_ms += 1_000;
        later.metrics.functions[1].invocations += 7;
        assert_eq!(history.view(later).functions[1].in_per_second, Some(7.0));
    }
}

#[test]
fn a_count_that_is_a_little_behind_is_no_negative_rate() {
    let then = busy(100);
    let mut now = busy(101);
    now.metrics.functions[1].invocations = then.metrics.functions[1].invocations - 1;
    now.metrics.process.cpu_seconds = 1.0;
    let view = seen(&then, &now);
    assert_eq!(view.functions[1].in_per_second, Some(0.0));
    assert_eq!(view.process.cpu_cores, Some(0.0));
}

#[test]
fn functions_are_sorted() {
    let view = seen(&troubled(100), &troubled(101));
    let first = |sort| {
        let page = Page {
            sort,
            ..page(80, None)
        };
        let text = shown(&view, &page);
        let mut lines = text
            .lines()
            .skip_while(|line| !line.starts_with("FUNCTION"));
        lines.nth(1).unwrap().to_owned()
    };
    for (sort, expected) in [
        (TopSort::In, "example/greeter"),
        (TopSort::Errors, "exampl"),
        (TopSort::P99, "exampl"),
        (TopSort::Queue, "exampl"),
        (TopSort::Name, "exampl"),
    ] {
        assert!(
            first(sort).starts_with(expected),
            "{sort:?}: {}",
            first(sort)
        );
    }
}

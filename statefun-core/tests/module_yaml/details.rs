//! What loading gives beside findings: typed specs, places, the configuration, and findings in each format.

use std::fmt::Write as _;
use std::time::Duration;

use statefun_core::module::model::{
    Availability, FileFormat, HttpMethod, KINDS, OnError, PathSegment, RecordKey, RequestPart,
    Spec, StartupPosition, kind,
};
use statefun_core::module::render::{Format, HumanOptions, render, summary};
use statefun_core::module::schema::{Absent, Type};
use statefun_core::module::{
    Application, BuildFeatures, Environment, Findings, Graph, ReservedPort, Source, check,
    check_reserved_ports, codes, reference,
};

use crate::{Case, Surroundings, run};

fn good(name: &str) -> (Application, Surroundings) {
    let case = Case::all("good")
        .into_iter()
        .find(|case| case.name == name)
        .expect("the case");
    let surroundings = case.surroundings();
    (case.run().0, surroundings)
}

fn load(text: &str) -> (Application, Findings) {
    Application::load(
        [Source::text("module.yaml", text)],
        &Environment::of::<&str, &str>([]),
    )
}

fn ids(findings: &Findings) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.id).collect()
}

#[test]
fn defaults_of_http_ingress() {
    let (application, _) = good("smallest_http");
    let Some(Spec::HttpIngress(spec)) = application.specs().next() else {
        panic!("no HTTP ingress");
    };
    assert_eq!(spec.address.as_str(), "127.0.0.1:8080");
    assert_eq!(spec.path_template().as_str(), "/greets/{id}");
    assert_eq!(spec.id_source(), Some(RequestPart::Path));
    assert_eq!(spec.type_source(), None);
    assert_eq!(spec.max_body_bytes.bytes(), 1 << 20);
    assert_eq!(spec.max_wait, Duration::from_secs(30));
    assert_eq!(spec.idempotency.retention, Duration::from_hours(24));
    assert_eq!(spec.on_error, OnError::Skip);
    assert!(spec.auth.is_none() && spec.tls.is_none() && spec.routers.is_empty());
}

#[test]
fn every_field_of_http_is_read() {
    let (application, _) = good("every_field_of_http");
    let specs: Vec<&Spec> = application.specs().collect();
    let [
        Spec::HttpIngress(ingress),
        Spec::HttpEgress(egress),
        Spec::FileEgress(letters),
    ] = specs[..]
    else {
        panic!("other specs");
    };
    assert_eq!(
        (ingress.address.host(), ingress.address.port()),
        ("::1", 8443)
    );
    assert_eq!(
        ingress.path_template().segments(),
        [
            PathSegment::Literal("v1".to_owned()),
            PathSegment::Type,
            PathSegment::Id,
            PathSegment::Literal("greet".to_owned())
        ]
    );
    assert_eq!(ingress.value_types().len(), 2);
    assert_eq!(ingress.max_body_bytes.bytes(), 512 << 10);
    assert_eq!(ingress.max_wait, Duration::from_mins(1));
    assert_eq!(ingress.idempotency.retention, Duration::from_hours(48));
    assert_eq!(
        ingress.auth.as_ref().map(|auth| auth.bearer.reveal()),
        Some("hunter2")
    );
    assert_eq!(
        ingress.on_error.dead_letter().map(AsRef::as_ref),
        Some("example/letters")
    );
    assert_eq!(egress.method, HttpMethod::Patch);
    assert_eq!(egress.headers.0["Authorization"].reveal(), "Bearer hunter3");
    assert_eq!(
        egress.key_from.as_ref().map(|key| key.pointer.as_str()),
        Some("/user/id")
    );
    assert_eq!(egress.timeout, Duration::from_secs(5));
    assert_eq!(egress.retry.initial_delay, Duration::from_millis(50));
    assert_eq!(egress.retry.max_delay, Duration::from_hours(2));
    assert_eq!(egress.max_outbox_bytes.bytes(), 1 << 30);
    let files = ingress
        .tls
        .as_ref()
        .map(|tls| (&*tls.certificate, &*tls.key));
    assert_eq!(
        files,
        Some(("tls/cert.pem".as_ref(), "tls/key.pem".as_ref()))
    );
    assert_eq!(
        egress.tls.as_ref().map(|tls| &*tls.ca),
        Some("tls/company.pem".as_ref())
    );
    assert_eq!(letters.format(), Some(FileFormat::Json));
    let shown = format!("{application:?}");
    assert!(
        !format!("{specs:?}").contains("hunter"),
        "a secret is shown"
    );
    assert!(!shown.contains("hunter"), "a secret is shown in the whole");
}

#[test]
fn every_field_of_files_is_read() {
    let (application, _) = good("every_field_of_files");
    let specs: Vec<&Spec> = application.specs().collect();
    let [
        Spec::FileIngress(json),
        Spec::FileIngress(csv),
        Spec::FileEgress(out),
    ] = specs[..]
    else {
        panic!("other specs");
    };
    let Some(RecordKey::Pointer(pointer)) = &json.id_from else {
        panic!("no pointer");
    };
    assert_eq!(pointer.steps().collect::<Vec<_>>(), ["user/id", "0"]);
    assert!(!json.follow);
    assert_eq!(json.startup_position, StartupPosition::Latest);
    assert_eq!(csv.id_from, Some(RecordKey::Column("user_id".to_owned())));
    assert_eq!((csv.csv.delimiter.0, csv.csv.header), ('\t', Some(false)));
    assert_eq!(csv.csv.columns, ["user_id", "name"]);
    assert!(csv.follow);
    assert_eq!((out.csv.delimiter.0, out.csv.header), (';', Some(true)));
}

#[test]
fn configuration_keeps_scalars_as_they_are_written() {
    let (application, _) = good("every_field_of_configuration");
    let configuration = application.global_configuration();
    let all: Vec<(&str, &str)> = configuration.iter().collect();
    assert_eq!(
        all,
        [
            ("long", "two\nlines\n"),
            ("number", "0042"),
            ("quoted", "a: b"),
            ("text", "eu"),
            ("truth", "yes"),
        ]
    );
    assert!(!format!("{configuration:?}").contains("0042"));
}

#[test]
fn variables_reach_the_specs() {
    let (application, _) = good("variables");
    let Some(Spec::HttpIngress(spec)) = application.specs().next() else {
        panic!("no HTTP ingress");
    };
    assert_eq!(spec.id.as_str(), "example/greets");
    assert_eq!(spec.address.as_str(), "127.0.0.1:8099");
    assert_eq!(spec.targets[0].as_str(), "example/greeter");
    assert_eq!(spec.max_wait, Duration::from_secs(5));
}

#[test]
fn places_are_those_of_the_file() {
    let text = "# ü\nkind: io.statefun.http.v1/ingress\nspec:\n  id: 'example/greets' # it's\n  \
                valueType: &t example/GreetRequest\n  targets:\n    - example/a\n    - \"example/b\"\n  \
                idempotency: {retention: 1h}\n";
    let (application, findings) = load(text);
    assert!(findings.is_empty(), "{:?}", ids(&findings));
    let component = &application.components()[0];
    for (path, expected) in [
        ("id", "'example/greets'"),
        ("valueType", "example/GreetRequest"),
        ("targets", "- example/a\n    - \"example/b\""),
        ("targets[0]", "example/a"),
        ("targets[1]", "\"example/b\""),
        ("idempotency", "{retention: 1h}"),
        ("idempotency.retention", "1h"),
    ] {
        let span = component.span_of(path).expect(path);
        assert_eq!(application.sources().slice(span), expected, "{path}");
    }
    assert!(component.span_of("targets[2]").is_none());
    assert!(component.span_of("nowhere.at[0].all").is_none());
    let position = application
        .sources()
        .get(component.file())
        .expect("the file");
    let id = component.span_of("id").expect("id");
    assert_eq!(
        (
            position.position(id.start).line,
            position.position(id.start).column
        ),
        (4, 7)
    );
}

/// Every default must be one that the checks accept, and every record must read what it declares.
#[test]
fn the_smallest_spec_of_each_kind_reads() {
    for kind in KINDS {
        let Availability::Ready { record, .. } = &kind.availability else {
            continue;
        };
        let mut text = format!("kind: {}\nspec:\n", kind.name);
        for field in record.fields {
            assert!(
                !field.doc.trim().is_empty(),
                "{} of {} has no documentation",
                field.name,
                kind.name
            );
            if field.absent != Absent::Refused {
                continue;
            }
            let value = match field.kind {
                Type::Name(_) => "example/x",
                Type::Integer { .. } => "8080",
                Type::Map { .. } => "{a: b}",
                Type::Checked(_) => "http://example.com",
                _ => "x.json",
            };
            writeln!(text, "  {}: {value}", field.name).expect("a String takes everything");
        }
        let (application, findings) = load(&text);
        assert!(findings.is_empty(), "{text}{:?}", ids(&findings));
        assert_eq!(application.specs().count(), 1, "{text}");
    }
    assert!(kind("io.statefun.http.v1/ingress").is_some());
    assert!(kind("io.statefun.http.v1/nothing").is_none());
}

#[test]
fn all_kinds_of_statefun_are_known() {
    for name in [
        "io.statefun.endpoints.v1/http",
        "io.statefun.endpoints.v2/http",
        "io.statefun.kafka.v1/ingress",
        "io.statefun.kafka.v1/egress",
        "io.statefun.kinesis.v1/ingress",
        "io.statefun.kinesis.v1/egress",
        "io.statefun.nats.v1/ingress",
        "io.statefun.nats.v1/egress",
    ] {
        let (_, findings) = load(&format!("kind: {name}\nspec: {{id: a/b}}\n"));
        assert_eq!(ids(&findings), ["SF0203"], "{name}");
    }
}

#[test]
fn the_trap_of_the_documentation_is_reported() {
    let text = |value: &str| {
        format!(
            "kind: io.statefun.kafka.v1/egress\nspec:\n  id: a/b\n  address: k:1\n  deliverySemantic:\n    \
             type: exactly-once\n    transactionTimeoutMillis: {value}\n"
        )
    };
    let (application, findings) = load(&text("15min"));
    assert_eq!(ids(&findings), ["SF0203", "SF0221"]);
    let trap = findings.iter().last().expect("the trap");
    assert!(
        trap.help
            .as_deref()
            .is_some_and(|help| help.contains("transactionTimeoutMillis: 900000"))
    );
    let place = trap.primary.as_ref().expect("a place").span;
    assert_eq!(application.sources().slice(place), "15min");
    assert_eq!(ids(&load(&text("900000")).1), ["SF0203"]);
}

#[test]
fn all_mistakes_are_found_in_one_pass_in_the_order_of_the_file() {
    let text = "kind: io.statefun.http.v1/ingress\nspec:\n  id: greets\n  valueType: example/GreetReqest\n  \
                targets: [example/greter]\n  maxWait: 30\n  colour: blue\n---\nkind: io.statefun.htp.v1/egress\nspec:\n  \
                id: example/out\n---\nkind: io.statefun.playground.v1/ingress\nspec:\n  port: 99999\n---\nbroken: [\n";
    let modules = [("module.yaml".to_owned(), text.to_owned())];
    let (application, findings) = run(&modules, &Surroundings::of(""));
    assert_eq!(
        ids(&findings),
        [
            "SF0211", "SF0302", "SF0209", "SF0205", "SF0202", "SF0216", "SF0102"
        ]
    );
    assert_eq!(summary(&findings), "7 errors");
    let github = render(&findings, application.sources(), Format::Github);
    assert_eq!(github.lines().count(), findings.len());
    let first = github.lines().next().expect("a line");
    assert_eq!(
        first,
        "::error file=module.yaml,line=3,col=7,endLine=3,endColumn=13,title=SF0211 bad name::\
         `greets` is not an id: it has no namespace%0Ahelp: write `namespace/name`"
    );
}

#[test]
fn json_is_whole() {
    let (application, findings) = load("kind: io.statefun.stdio.v1/egress\nspec:\n  id: ü/b c\n");
    let text = render(&findings, application.sources(), Format::Json);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["version"], 1);
    assert_eq!((&json["errors"], &json["warnings"]), (&1.into(), &0.into()));
    let finding = &json["findings"][0];
    assert_eq!(finding["code"], "SF0211");
    assert_eq!(finding["severity"], "error");
    let place = &finding["place"];
    assert_eq!(place["file"], "module.yaml");
    assert_eq!((&place["line"], &place["column"]), (&3.into(), &7.into()));
    assert_eq!(
        (&place["end_line"], &place["end_column"]),
        (&3.into(), &12.into())
    );
    assert_eq!(
        (&place["start_offset"], &place["end_offset"]),
        (&46.into(), &52.into())
    );
}

#[test]
fn reports_can_do_without_colour_and_unicode() {
    let (application, findings) =
        load("kind: io.statefun.stdio.v1/egress\nspec:\n  id: greetings\n");
    for color in [false, true] {
        for unicode in [false, true] {
            let options = HumanOptions {
                color,
                unicode,
                width: 40,
            };
            let text = render(&findings, application.sources(), Format::Human(options));
            assert_eq!(text.contains('\u{1b}'), color, "{text}");
            // The words themselves are ASCII here.
            assert_eq!(!text.is_ascii(), unicode, "{text}");
            assert!(
                text.contains("SF0211") && text.contains("greetings"),
                "{text}"
            );
        }
    }
}

#[test]
fn a_terminal_does_not_obey_the_file() {
    let text =
        "kind: io.statefun.stdio.v1/egress\nspec:\n  id: \"greet\u{9b}31mings\"\n  \"\\e[2J\": 1\n";
    let (application, findings) = load(text);
    assert!(!findings.is_empty());
    let shown = render(
        &findings,
        application.sources(),
        Format::Human(HumanOptions::plain()),
    );
    assert!(
        !shown.chars().any(|c| c.is_control() && c != '\n'),
        "{shown:?}"
    );
}

#[test]
fn unreadable_files_are_findings() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = folder.path().join("bytes.yaml");
    std::fs::write(&bytes, [0xff, 0xfe, 0x00]).expect("a file");
    let (_, findings) = Application::load_files([
        folder.path().join("none.yaml"),
        bytes,
        folder.path().to_path_buf(),
    ]);
    assert_eq!(ids(&findings), ["SF0101", "SF0101", "SF0101"]);
    assert!(findings.iter().all(|finding| finding.help.is_some()));
    let good = folder.path().join("module.yaml");
    std::fs::write(
        &good,
        "kind: io.statefun.stdio.v1/egress\nspec: {id: a/b}\n",
    )
    .expect("a file");
    let (application, findings) = Application::load_files([good]);
    assert!(findings.is_empty());
    assert_eq!(application.components().len(), 1);
}

#[test]
fn a_syntax_error_hides_no_names() {
    // The dead letters' egress would stand in what cannot be read.
    let text = "kind: io.statefun.http.v1/ingress\nspec:\n  id: example/greets\n  valueType: example/GreetRequest\n  \
                targets: [example/greeter]\n  onError: {deadLetter: example/letters}\n---\nkind: [\n";
    let modules = [("module.yaml".to_owned(), text.to_owned())];
    let (_, findings) = run(&modules, &Surroundings::of(""));
    assert_eq!(ids(&findings), ["SF0102"]);
}

#[test]
fn secrets_in_broken_files_are_masked() {
    let text = "kind: io.statefun.http.v1/ingress\nspec:\n  auth:\n    bearer: hunter2\n    x: [\n";
    let (application, findings) = load(text);
    assert_eq!(ids(&findings), ["SF0102"]);
    let shown = render(
        &findings,
        application.sources(),
        Format::Human(HumanOptions::plain()),
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn ports_of_the_runtime_are_reserved() {
    let (application, _) = good("smallest_http");
    let reserved = |port| ReservedPort {
        port,
        purpose: "the operations port".to_owned(),
    };
    assert_eq!(
        ids(&check_reserved_ports(&application, &[reserved(8080)])),
        ["SF0311"]
    );
    assert!(check_reserved_ports(&application, &[reserved(8081), reserved(0)]).is_empty());
}

#[test]
fn findings_join_in_order() {
    let (application, loaded) = load(
        "kind: io.statefun.http.v1/ingress\nspec:\n  id: a/b\n  tls: {certificate: a, key: b}\n  maxWait: 3\n",
    );
    let checked = check(&application, None, &BuildFeatures::default());
    assert_eq!(ids(&loaded), ["SF0209"]);
    assert_eq!(ids(&checked), ["SF0206", "SF0314"]);
    assert_eq!(ids(&loaded.and(checked)), ["SF0206", "SF0314", "SF0209"]);
}

#[test]
fn codes_can_be_looked_up() {
    assert_eq!(codes::find("sf0302"), Some(codes::UNSERVED_TARGET));
}

/// The wiring of the graph's tests: every kind of way once.
fn wiring() -> Graph {
    let text = "#! function example/greeter accepts=example/A sends=example/email,example/greeter \
                egress=example/out:example/Greeting\n\
                #! function example/email accepts=example/Email dynamic\n\
                #! router one reads=example/A to=example/greeter\n\
                #! router two reads=example/B to=example/nobody ingress=example/clock\n\
                #! ingress example/clock\n\
                #! egress example/letters\n\
                kind: io.statefun.http.v1/ingress\nspec:\n  id: example/\"quoted\"#1\n  valueType: example/A\n  \
                targets: [example/greeter]\n  routers: [one]\n  onError: {deadLetter: example/letters}\n---\n\
                kind: io.statefun.playground.v1/ingress\nspec: {port: 1}\n---\n\
                kind: io.statefun.stdio.v1/egress\nspec: {id: example/out}\n";
    let surroundings = Surroundings::of(text);
    let (application, _) = run(
        &[("module.yaml".to_owned(), text.to_owned())],
        &surroundings,
    );
    Graph::of(
        &application,
        &surroundings.description.expect("a description"),
    )
}

#[test]
fn reference_of_all_kinds() {
    let text: Vec<String> = KINDS.iter().map(reference).collect();
    insta::with_settings!({
        snapshot_path => "snapshots",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("reference", text.join("\n"));
    });
}

#[test]
fn long_values_are_cut_in_messages() {
    let long = "ü".repeat(5000);
    let (_, findings) = load(&format!(
        "kind: io.statefun.stdio.v1/egress\nspec:\n  id: {long}\n"
    ));
    let finding = findings.iter().next().expect("a finding");
    assert!(finding.message.len() < 300, "{}", finding.message.len());
}

#[test]
fn graph_in_each_format() {
    let graph = wiring();
    insta::with_settings!({
        snapshot_path => "snapshots",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("graph_text", graph.to_text());
        insta::assert_snapshot!("graph_mermaid", graph.to_mermaid());
        insta::assert_snapshot!("graph_dot", graph.to_dot());
        insta::assert_snapshot!("graph_json", graph.to_json());
    });
}

//! The rehearsal: what it counts, and that it agrees with what a start and the invocations after it then do.

use statefun_core::migrate::MigrationReport;
use statefun_core::prelude::*;
use statefun_core::testing::{Harness, HarnessBuilder};

use crate::basket::{v1, v1_with_a_note, v2, v2_alone, v3, v3_without_v1};

fn code<F: StatefulFunction>() -> HarnessBuilder {
    Harness::builder().function::<F>()
}

/// Baskets of version 1, of it with a note, and of version 2.
fn mixed() -> Harness {
    let mut app = code::<v1::Basket>().build().unwrap();
    let put = |app: &mut Harness, id: &str, text: &str| {
        app.send(v1::Basket::at(id), text.to_owned())
            .run_until_idle();
    };
    for n in 0..20 {
        put(&mut app, &format!("good-{n}"), &n.to_string());
    }
    for n in 0..12 {
        put(&mut app, &format!("bad-{n:02}"), &format!("x{}", n % 2));
    }
    put(&mut app, "worse", "panic");
    app.restart_as(code::<v1_with_a_note::Basket>());
    put(&mut app, "good-0", "100");
    app.restart_as(code::<v2::Basket>());
    put(&mut app, "good-1", "101");
    app
}

/// rows, current, compatible, migrated, failing, failing addresses, unchecked
fn counts(report: &MigrationReport, state: &str) -> [u64; 7] {
    let states = &report.functions[0].states;
    let state = states.iter().find(|it| it.name == state).unwrap();
    [
        state.rows,
        state.current,
        state.compatible,
        state.migrated,
        state.failing,
        state.failing_addresses,
        state.unchecked,
    ]
}

#[test]
fn it_counts_rows_by_what_they_are_and_names_addresses_that_would_fail() {
    let mut app = mixed();
    let report = app.dry_run_as(code::<v3::Basket>());
    assert_eq!(counts(&report, "last"), [33, 0, 0, 20, 13, 13, 0]);
    assert_eq!(counts(&report, "by_name"), [35, 0, 0, 22, 13, 13, 0]);
    // Each buffer has a row that says which elements it has.
    assert_eq!(counts(&report, "all"), [68, 0, 0, 22, 13, 13, 33]);
    let function = &report.functions[0];
    assert_eq!(function.name, "evolution/basket");
    assert_eq!((function.addresses, function.failing_addresses), (33, 13));
    assert_eq!((report.addresses, report.failing_addresses), (33, 13));
    let last = function.states.iter().find(|it| it.name == "last").unwrap();
    assert_eq!(last.version, Some(3));
    assert_eq!(last.rows_by_version, [(1, 19), (2, 1)].into());
    assert_eq!(last.failures.len(), 10, "the others are counted only");
    let reasons: Vec<_> = last
        .reasons
        .iter()
        .map(|(reason, rows)| (reason.as_str(), *rows))
        .collect();
    let refused = "it does not migrate from version 1 (`ItemV1`) to 2 (`Item`): ";
    assert_eq!(
        reasons[0],
        (format!("{refused}`x0` is no number").as_str(), 6)
    );
    assert_eq!(
        reasons[1],
        (format!("{refused}`x1` is no number").as_str(), 6)
    );
    assert!(
        reasons[2]
            .0
            .starts_with(&format!("{refused}its migration panicked")),
        "{reasons:?}"
    );
    assert!(report.refused.is_empty() && !report.is_clean());

    // The one that has version 2 already.
    let report = app.dry_run_as(code::<v2::Basket>());
    assert_eq!(counts(&report, "last"), [33, 1, 0, 19, 13, 13, 0]);
    assert_eq!(report.functions[0].states[1].name, "by_name");

    // What it says is what happens.
    app.restart_as(code::<v3::Basket>());
    for n in 0..20 {
        app.send(v1::Basket::at(format!("good-{n}")), "5".to_owned());
    }
    for n in 0..12 {
        app.send(v1::Basket::at(format!("bad-{n:02}")), "5".to_owned());
    }
    app.send(v1::Basket::at("worse"), "5".to_owned())
        .run_until_idle();
    let mut parked: Vec<String> = app.parked().into_iter().map(|parked| parked.id).collect();
    parked.sort_unstable();
    assert_eq!(parked.len(), 13);
    assert!(
        last.failures
            .iter()
            .all(|failure| parked.contains(&failure.id))
    );
}

#[test]
fn a_compatible_change_shows_as_such_and_a_clean_one_as_clean() {
    let mut app = code::<v1::Basket>().build().unwrap();
    app.send(v1::Basket::at("a"), "1".to_owned())
        .run_until_idle();
    let report = app.dry_run_as(code::<v1_with_a_note::Basket>());
    assert_eq!(counts(&report, "last"), [1, 0, 1, 0, 0, 0, 0]);
    assert!(report.is_clean(), "{report}");
    let report = app.dry_run_as(code::<v1::Basket>());
    assert_eq!(counts(&report, "last"), [1, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn it_says_what_a_start_would_refuse_in_the_same_words() {
    let mut app = mixed();
    for code in [code::<v2_alone::Basket>, code::<v3_without_v1::Basket>] {
        let report = app.dry_run_as(code());
        let said = app.try_restart_as(code()).err().unwrap().to_string();
        assert_eq!(report.refused.len(), 3, "{report}");
        assert!(
            report.refused.iter().all(|refused| said.contains(refused)),
            "{said}\n{report}"
        );
        assert!(!report.is_clean());
    }
    let missing = Harness::builder().stub("evolution/other");
    let report = app.dry_run_as(missing);
    assert!(
        report.refused[0].contains("function `evolution/basket` is gone"),
        "{report}"
    );
    assert_eq!(counts(&report, "last"), [33, 0, 0, 0, 0, 0, 33]);
}

/// A message changes while some wait.
mod notes {
    pub(crate) mod v1 {
        use statefun_core::prelude::*;

        #[derive(Debug, Clone, Serialize, Deserialize, Message)]
        #[message(typename = "evolution/Note")]
        pub(crate) struct Note {
            pub(crate) text: String,
        }

        #[stateful_function(typename = "evolution/desk", accepts(String, Note))]
        pub(crate) struct Desk {}

        impl Handle<String> for Desk {
            fn handle(&mut self, text: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
                ctx.send_after(Duration::from_mins(1), Self::at("later"), Note { text });
                Ok(())
            }
        }

        impl Handle<Note> for Desk {
            fn handle(&mut self, _: Note, _: &mut Context<'_, Self>) -> HandlerResult {
                Ok(())
            }
        }
    }

    pub(crate) mod v2 {
        use statefun_core::prelude::*;

        #[derive(Debug, Clone, Serialize, Deserialize, Message)]
        #[message(typename = "evolution/Note")]
        pub(crate) struct Note {
            text: u64,
        }

        #[stateful_function(typename = "evolution/desk", accepts(String, Note))]
        pub(crate) struct Desk {}

        impl Handle<String> for Desk {
            fn handle(&mut self, _: String, _: &mut Context<'_, Self>) -> HandlerResult {
                Ok(())
            }
        }

        impl Handle<Note> for Desk {
            fn handle(&mut self, note: Note, _: &mut Context<'_, Self>) -> HandlerResult {
                let _ = note.text;
                Ok(())
            }
        }
    }
}

#[test]
fn stored_messages_that_are_no_longer_read_are_counted_by_type_and_reason() {
    let mut app = code::<notes::v1::Desk>().build().unwrap();
    for text in ["a", "b", "c"] {
        app.send(notes::v1::Desk::at("desk"), text.to_owned());
    }
    app.run_until_idle();
    let report = app.dry_run_as(code::<notes::v1::Desk>());
    assert_eq!((report.messages.checked, report.messages.failing), (3, 0));
    assert!(report.is_clean(), "{report}");

    let report = app.dry_run_as(code::<notes::v2::Desk>());
    assert_eq!((report.messages.checked, report.messages.failing), (3, 3));
    let total: u64 = report
        .messages
        .failures
        .iter()
        .map(|failure| failure.count)
        .sum();
    assert_eq!(
        (report.messages.failures[0].message.as_str(), total),
        ("evolution/Note", 3)
    );
    assert!(
        report.refused[0].contains("message `evolution/Note` has changed"),
        "{report}"
    );
}

#[test]
fn it_reads_well_for_people_and_programs() {
    let mut app = mixed();
    let report = app.dry_run_as(code::<v2::Basket>());
    insta::assert_snapshot!(report.to_string());
    let json = serde_json::to_value(&report).unwrap();
    let last = &json["functions"][0]["states"][2];
    assert_eq!(last["failingAddresses"], 13);
    assert_eq!(last["rowsByVersion"]["1"], 19);
    assert_eq!(
        serde_json::from_value::<MigrationReport>(json).unwrap(),
        report
    );
}

//! What becomes of rows, and what a start refuses.

use statefun_core::prelude::*;
use statefun_core::testing::{Harness, HarnessBuilder, MigrateError, migrated};

use crate::basket::{v1, v1_with_a_note, v2, v2_alone, v3, v3_without_v1};

fn code<F: StatefulFunction>() -> HarnessBuilder {
    Harness::builder().function::<F>()
}

fn put(app: &mut Harness, id: &str, text: &str) {
    app.send(v1::Basket::at(id), text.to_owned())
        .run_until_idle();
}

fn shown(app: &mut Harness, id: &str) -> String {
    app.call(v1::Basket::at(id), true)
}

/// Version 1 with an item in some baskets.
fn first(items: &[(&str, &str)]) -> Harness {
    let mut app = code::<v1::Basket>().build().unwrap();
    for (id, text) in items {
        put(&mut app, id, text);
    }
    app
}

fn refusal(app: &mut Harness, code: HarnessBuilder) -> String {
    app.try_restart_as(code).err().unwrap().to_string()
}

#[test]
fn rows_of_all_versions_are_read_and_written_in_the_new_one_when_they_change() {
    let mut app = first(&[("a", "1"), ("b", "5")]);
    app.restart_as(code::<v1_with_a_note::Basket>());
    put(&mut app, "a", "2");
    assert_eq!(
        shown(&mut app, "a"),
        "v1:2noted v1:1 v1:2noted v1:1 v1:2noted"
    );

    app.restart_as(code::<v2::Basket>());
    assert_eq!(
        shown(&mut app, "a"),
        "v2:2noted v2:1 v2:2noted v2:1 v2:2noted"
    );
    put(&mut app, "a", "3");
    assert_eq!(
        shown(&mut app, "a"),
        "v2:3 v2:1 v2:2noted v2:3 v2:1 v2:2noted v2:3"
    );
    app.restart();
    assert_eq!(
        shown(&mut app, "a"),
        "v2:3 v2:1 v2:2noted v2:3 v2:1 v2:2noted v2:3"
    );

    // Two steps for those that nobody has touched since.
    app.restart_as(code::<v3::Basket>());
    assert_eq!(
        shown(&mut app, "a"),
        "v3:300 v3:100 v3:200noted v3:300 v3:100 v3:200noted v3:300"
    );
    assert_eq!(shown(&mut app, "b"), "v3:500 v3:500 v3:500");
    put(&mut app, "a", "4");
    app.restart();
    assert_eq!(
        shown(&mut app, "a"),
        "v3:4 v3:100 v3:200noted v3:300 v3:4 v3:100 v3:200noted v3:300 v3:4",
        "what is written in version 3 is not converted again"
    );
    app.assert_no_failures();
}

#[test]
fn versions_may_be_left_out_between_two_deploys() {
    let mut app = first(&[("a", "7")]);
    app.restart_as(code::<v3::Basket>());
    assert_eq!(shown(&mut app, "a"), "v3:700 v3:700 v3:700");
}

#[test]
fn an_address_whose_row_does_not_migrate_is_parked_with_the_reason_and_stops_nobody() {
    let mut app = first(&[("bad", "many"), ("worse", "panic"), ("good", "7")]);
    app.restart_as(code::<v2::Basket>());
    for id in ["bad", "worse", "good"] {
        put(&mut app, id, "8");
    }
    assert_eq!(shown(&mut app, "good"), "v2:8 v2:7 v2:8 v2:7 v2:8");
    let parked = app.parked();
    let reason = |id: &str| {
        let parked = parked.iter().find(|parked| parked.id == id).unwrap();
        parked.problem.clone()
    };
    assert_eq!(parked.len(), 2);
    assert!(
        reason("bad").ends_with(
            "cannot be read: it does not migrate from version 1 (`ItemV1`) to 2 (`Item`): `many` is no number"
        ),
        "{}",
        reason("bad")
    );
    assert!(
        reason("worse").contains("its migration panicked: "),
        "{}",
        reason("worse")
    );

    // Nothing of it is lost: the code of before reads it, where nothing of version 2 is there.
    let mut app = first(&[("bad", "many")]);
    app.restart_as(code::<v2::Basket>());
    put(&mut app, "bad", "8");
    app.restart_as(code::<v1_with_a_note::Basket>());
    app.retry(v1::Basket::at("bad")).run_until_idle();
    assert_eq!(
        shown(&mut app, "bad"),
        "v1:8noted v1:8noted v1:many v1:many v1:8noted"
    );
}

#[test]
fn what_the_code_no_longer_reads_is_refused_as_long_as_there_are_rows_of_it() {
    let mut app = first(&[("a", "1"), ("b", "2")]);
    let said = refusal(&mut app, code::<v2_alone::Basket>());
    assert!(
        said.contains(
            "state `last` of `evolution/basket`: 2 rows of version 1 are still stored: keep the type of that version \
             beside the new one, and write a migration (`#[persisted(version = 2, migrate_from = …)]`), \
             or say `--drop-data evolution/basket:last`"
        ),
        "{said}"
    );
    assert!(
        said.contains("they are value of Item { text: String }"),
        "{said}"
    );

    app.restart_as(code::<v2::Basket>());
    put(&mut app, "a", "3");
    for code in [code::<v2_alone::Basket>, code::<v3_without_v1::Basket>] {
        let said = refusal(&mut app, code());
        assert!(
            said.contains("1 rows of version 1 are still stored: keep `ItemV1` and its migration"),
            "{said}"
        );
        assert_eq!(
            shown(&mut app, "b"),
            "v2:2 v2:2 v2:2",
            "the code of before goes on"
        );
    }
    // And not the first code again, which reads nothing of version 2.
    let said = refusal(&mut app, code::<v1::Basket>());
    assert!(
        said.contains(
            "1 rows of version 2 are still stored: start the code that wrote them, since this one has version 1 at most"
        ),
        "{said}"
    );
}

#[test]
fn a_migration_may_go_when_all_rows_have_been_rewritten_or_deleted() {
    let mut app = first(&[("a", "1")]);
    app.restart_as(code::<v2::Basket>());
    put(&mut app, "a", "1");
    let said = refusal(&mut app, code::<v3_without_v1::Basket>());
    assert!(
        !said.contains("state `last`") && !said.contains("state `by_name`"),
        "{said}"
    );
    assert!(
        said.contains("state `all`"),
        "the element was not touched: {said}"
    );
    put(&mut app, "a", "nothing");
    put(&mut app, "a", "1");
    app.restart_as(code::<v3_without_v1::Basket>());
    assert_eq!(shown(&mut app, "a"), "v3:100 v3:100 v3:100");
}

#[test]
fn a_single_value_is_migrated_for_a_test() {
    let old = |text: &str| v2::ItemV1 {
        text: text.to_owned(),
        note: None,
    };
    let now = |number| v3::Item {
        number,
        note: String::new(),
    };
    assert_eq!(migrated::<v3::Item, _>(&old("4")), Ok(now(400)));
    assert_eq!(migrated::<v3::Item, _>(&v2::Item::of("4")), Ok(now(400)));
    assert_eq!(migrated::<v3::Item, _>(&now(4)), Ok(now(4)));
    let failed = migrated::<v3::Item, _>(&old("x")).unwrap_err();
    assert_eq!(
        failed,
        MigrateError::Failed(
            "it does not migrate from version 1 (`ItemV1`) to 2 (`Item`): `x` is no number"
                .to_owned()
        )
    );
    let unrelated = migrated::<v2::Item, _>(&now(1)).unwrap_err();
    assert!(
        matches!(unrelated, MigrateError::Unrelated { .. }),
        "{unrelated}"
    );
}

#[test]
fn the_version_is_described() {
    let states = |definition: statefun_core::sdk::function::FunctionDefinition| {
        let states = definition.describe().states;
        states.iter().map(|state| state.version).collect::<Vec<_>>()
    };
    assert_eq!(states(v1::Basket::definition()), [1, 1, 1]);
    assert_eq!(states(v3::Basket::definition()), [3, 3, 3]);
}

/// A state that expires.
mod token {
    use statefun_core::prelude::*;

    pub(crate) mod v1 {
        use super::*;

        #[persisted]
        pub(crate) struct Token {
            pub(crate) text: String,
        }

        #[stateful_function(typename = "evolution/token", accepts(String))]
        pub(crate) struct Session {
            #[persisted(expire_after_write = "1h")]
            token: PersistedValue<Token>,
        }

        impl Handle<String> for Session {
            fn handle(&mut self, text: String, _: &mut Context<'_, Self>) -> HandlerResult {
                self.token.set(Token { text });
                Ok(())
            }
        }
    }

    #[persisted(version = 2, migrate_from = v1::Token)]
    pub(crate) struct Token {
        pub(crate) number: i64,
    }

    impl TryFrom<v1::Token> for Token {
        type Error = std::num::ParseIntError;

        fn try_from(old: v1::Token) -> Result<Self, Self::Error> {
            let number = old.text.parse()?;
            Ok(Self { number })
        }
    }

    #[stateful_function(typename = "evolution/token", accepts(String), retry(max_attempts = 1))]
    pub(crate) struct Session {
        #[persisted(expire_after_write = "1h")]
        pub(crate) token: PersistedValue<Token>,
    }

    impl Handle<String> for Session {
        fn handle(&mut self, _: String, _: &mut Context<'_, Self>) -> HandlerResult {
            self.token.number += 1;
            Ok(())
        }
    }
}

#[test]
fn what_has_expired_need_not_migrate() {
    for (minutes, parked) in [(59, 1), (60, 0)] {
        let mut app = code::<token::v1::Session>().build().unwrap();
        let at = || token::v1::Session::at("a");
        app.send(at(), "no number".to_owned()).run_until_idle();
        app.restart_as(code::<token::Session>());
        app.advance(Duration::from_mins(minutes));
        app.send(at(), String::new()).run_until_idle();
        assert_eq!(app.parked().len(), parked, "after {minutes} minutes");
    }
}

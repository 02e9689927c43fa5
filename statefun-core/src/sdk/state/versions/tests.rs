use serde::{Deserialize, Serialize};
use statefun_macros::{Shaped, persisted};

use super::*;
use crate::sdk::state::encode_row;

#[persisted]
#[derive(Debug, PartialEq)]
struct CartV1 {
    items: Vec<String>,
}

#[persisted(version = 2, migrate_from = CartV1)]
#[derive(Debug, PartialEq)]
struct CartV2 {
    items: Vec<String>,
    total: i64,
}

impl TryFrom<CartV1> for CartV2 {
    type Error = String;

    fn try_from(CartV1 { items }: CartV1) -> Result<Self, String> {
        if items.iter().any(String::is_empty) {
            return Err("an item has no name".to_owned());
        }
        let total = items.len() as i64;
        Ok(Self { items, total })
    }
}

/// Version 3 skips a number.
#[persisted(version = 5, migrate_from = CartV2)]
#[derive(Debug, PartialEq)]
struct Cart {
    items: Vec<String>,
    total: i64,
}

impl From<CartV2> for Cart {
    fn from(CartV2 { items, total }: CartV2) -> Self {
        let total = -total;
        Self { items, total }
    }
}

fn forms() -> Forms {
    Forms::of(Cart::shape(), Cart::versions())
}

fn decode(forms: &Forms, row: &[u8]) -> Result<Cart, String> {
    forms.decode(RowValue::parse(row).unwrap())
}

fn items() -> Vec<String> {
    vec!["tea".to_owned()]
}

fn cart(total: i64) -> Cart {
    let items = items();
    Cart { items, total }
}

#[test]
fn a_row_is_read_as_the_type_that_wrote_it_and_converted_step_by_step() {
    let forms = forms();
    assert_eq!(
        forms
            .list()
            .iter()
            .map(|form| form.version)
            .collect::<Vec<_>>(),
        [5, 2, 1]
    );
    let schema = |place: usize| {
        let form = &forms.list()[place];
        schema_id(&form.shape, form.version)
    };
    assert_eq!(schema(0), forms.schema);
    let row = encode_row(&cart(7), schema(0), 0).unwrap();
    assert_eq!(decode(&forms, &row), Ok(cart(7)));
    // The fields of the second are those of the third; its number says that it is to be converted.
    let row = encode_row(&cart(7), schema(1), 0).unwrap();
    assert_eq!(decode(&forms, &row), Ok(cart(-7)));
    let row = encode_row(&CartV1 { items: items() }, schema(2), 0).unwrap();
    assert_eq!(decode(&forms, &row), Ok(cart(-1)));
    assert_eq!(forms.outcome(schema(0)), Outcome::Current);
    assert_eq!(forms.outcome(schema(1)), Outcome::Migrated { from: 2 });
    assert_eq!(forms.outcome(schema(2)), Outcome::Migrated { from: 1 });
}

#[test]
fn a_failing_step_says_which_one_it_is() {
    let forms = forms();
    let one = schema_id(&CartV1::shape(), 1);
    let nameless = CartV1 {
        items: vec![String::new()],
    };
    let row = encode_row(&nameless, one, 0).unwrap();
    assert_eq!(
        decode(&forms, &row).unwrap_err(),
        "it does not migrate from version 1 (`CartV1`) to 2 (`CartV2`): an item has no name"
    );
    let row = encode_row(&7, one, 0).unwrap();
    let problem = decode(&forms, &row).unwrap_err();
    assert!(
        problem.starts_with("it does not read as `CartV1` of version 1: "),
        "{problem}"
    );
}

/// `Cart` as it was when it was the first version, and had a field less than `CartV1` has come to have.
mod before {
    use super::*;

    #[derive(Serialize, Deserialize, Shaped)]
    pub(super) struct Cart {
        pub(super) items: Vec<String>,
    }
}

#[test]
fn what_was_recorded_picks_the_type_by_its_version() {
    let shape = before::Cart::shape();
    let schema = schema_id(&shape, 1);
    let row = encode_row(&before::Cart { items: items() }, schema, 0).unwrap();
    let mut forms = forms();
    assert!(!forms.knows(schema), "the type has another name now");
    forms.learn([(schema, 1, &shape)]);
    assert_eq!(decode(&forms, &row), Ok(cart(-1)));

    // What is older than anything recorded is read as the oldest of it.
    let row = encode_row(&before::Cart { items: items() }, 99, 0).unwrap();
    assert_eq!(decode(&forms, &row), Ok(cart(-1)));
    assert_eq!(forms.outcome(99), Outcome::Migrated { from: 1 });
}

#[test]
fn what_no_version_reads_is_an_error_and_no_guess() {
    let mut forms = forms();
    let other = Shape::String;
    forms.learn([(98, 1, &other), (99, 6, &other)]);
    let row = |schema| encode_row(&"text", schema, 0).unwrap();
    assert_eq!(
        decode(&forms, &row(99)).unwrap_err(),
        "it is of version 6, and the latest that this code has is 5"
    );
    let problem = decode(&forms, &row(98)).unwrap_err();
    assert!(
        problem.starts_with("it is of version 1, and `CartV1` does not read it: it was String"),
        "{problem}"
    );
}

#[test]
fn a_version_without_a_type_is_read_as_the_next_one_if_that_reads_it() {
    let form = |version, shape| Form {
        version,
        name: format!("V{version}"),
        shape,
    };
    let forms = [
        form(4, Shape::String),
        form(3, Shape::Uint(64)),
        form(2, Shape::Uint(32)),
    ];
    assert_eq!(choose(&forms, 1, &Shape::Uint(16)), Ok(2));
    let later = choose(&forms, 1, &Shape::String);
    assert_eq!(later, Err(Unread::Gone), "the fourth may mean another text");
    assert_eq!(choose(&forms, 2, &Shape::Uint(32)), Ok(2));
    assert_eq!(choose(&forms, 1, &Shape::Bool), Err(Unread::Gone));
    assert_eq!(
        choose(&forms, 5, &Shape::String),
        Err(Unread::Later { latest: 4 })
    );
    assert!(matches!(
        choose(&forms, 3, &Shape::String),
        Err(Unread::Changed { .. })
    ));
}

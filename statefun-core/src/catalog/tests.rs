use super::*;
use crate::id::{Address, FunctionTypeId, TypeName};
use crate::sdk::state::push_row_header;
use crate::shape::Field;
use crate::state::keys::{Space, address_key};
use crate::state::memory::MemoryStore;
use crate::state::{Row, StateError, StateStore};

/// As it was written before there were versions of states, with the data of the damage tests' shop.
const BEFORE_VERSIONS: &str = include_str!("fixtures/before-versions.json");

fn before_versions() -> Catalog {
    Catalog::parse(BEFORE_VERSIONS.as_bytes(), Path::new("fixture")).unwrap()
}

fn total(name: &str, field: &str, shape: Shape) -> Shape {
    let field = Field {
        name: field.to_owned(),
        shape,
        optional: false,
    };
    Shape::Struct {
        name: name.to_owned(),
        fields: vec![field],
    }
}

fn form(version: u32, name: &str, shape: Shape) -> Form {
    Form {
        version,
        name: name.to_owned(),
        shape,
    }
}

fn v1() -> Form {
    form(1, "TotalV1", total("TotalV1", "count", Shape::Uint(64)))
}

fn v2() -> Form {
    form(2, "Total", total("Total", "pieces", Shape::String))
}

fn v3() -> Form {
    form(3, "Total", total("Total", "pieces", Shape::String))
}

/// The catalog of code that has these versions of the cart's total, the current one first.
fn code(forms: &[Form]) -> Catalog {
    let mut catalog = before_versions();
    let entry = entry_mut(&mut catalog);
    entry.version = forms[0].version;
    entry.shape = forms[0].shape.clone();
    entry.forms = forms.to_vec();
    catalog
}

fn entry_mut(catalog: &mut Catalog) -> &mut StateEntry {
    let cart = catalog.functions.get_mut("shop/cart").unwrap();
    cart.states.get_mut("total").unwrap()
}

fn entry(catalog: &Catalog) -> &StateEntry {
    &catalog.functions["shop/cart"].states["total"]
}

/// Rows of the cart's total, with these schema ids.
fn rows(catalog: &Catalog, schemas: &[u32]) -> MemoryStore {
    let store = MemoryStore::default();
    let function = TypeName::parse("shop/cart").unwrap();
    let mut rows: Vec<Row> = schemas
        .iter()
        .enumerate()
        .map(|(place, schema)| {
            let address = Address::new(function, format!("c{place}").as_str());
            let mut key = address_key(Space::State, catalog.key_groups, &address);
            key.extend_from_slice(&entry(catalog).number.to_be_bytes());
            let mut value = Vec::new();
            push_row_header(&mut value, *schema, 0);
            (key, value)
        })
        .collect();
    rows.sort();
    let mut changes = rows.iter().map(|(key, value)| (&key[..], Some(&value[..])));
    store.apply(1, &mut changes).unwrap();
    store
}

fn succeed(old: &Catalog, new: &Catalog, store: &dyn StateReader) -> Result<Catalog, Vec<Change>> {
    let data = StoredData {
        store,
        last_record: &[],
        undelivered: &BTreeMap::new(),
    };
    match old.succeed(new, &data, Path::new("data"), &[]) {
        Ok(next) => Ok(next),
        Err(CatalogError::Changed { changes, .. }) => Err(changes),
        Err(other) => panic!("{other}"),
    }
}

/// A store that is not to be looked at.
struct Untouched;
impl StateReader for Untouched {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        panic!("a row was read")
    }
    fn scan(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<Row>, StateError> {
        panic!("rows were looked at")
    }
}

#[test]
fn a_catalog_of_before_there_were_versions_is_read_and_written_as_it_was() {
    let catalog = before_versions();
    assert_eq!(
        serde_json::to_string_pretty(&catalog).unwrap(),
        BEFORE_VERSIONS
    );
    assert_eq!(
        (entry(&catalog).version, entry(&catalog).former.len()),
        (1, 0)
    );
    succeed(&catalog, &catalog, &Untouched).unwrap();
    let error = Catalog::parse(b"{}", Path::new("its/name")).unwrap_err();
    assert!(
        error.to_string().starts_with("its/name is not a catalog"),
        "{error}"
    );
}

#[test]
fn functions_states_and_shapes_are_found_by_their_numbers() {
    let old = before_versions();
    let catalog = succeed(&old, &code(&[v2(), v1()]), &Untouched).unwrap();
    let number = TypeName::parse("shop/cart").unwrap().function_type_id();
    let (name, cart) = catalog.function(number).unwrap();
    assert_eq!(name, "shop/cart");
    assert_eq!(catalog.function(FunctionTypeId(1)), None);
    assert_eq!(catalog.function_named("shop/cart"), Some(cart));
    let (name, state) = cart.state(entry(&old).number).unwrap();
    assert_eq!((name, cart.state(1)), ("total", None));
    let before = entry(&old).schema();
    assert_eq!(state.shape_of(state.schema()), Some((2, &v2().shape)));
    assert_eq!(state.shape_of(before), Some((1, &entry(&old).shape)));
    assert_eq!(state.shape_of(1), None);
    assert_eq!(state.oldest(), (1, &entry(&old).shape));
    assert_eq!(catalog.shape(before), Some(&entry(&old).shape));
    assert!(catalog.messages().any(|(name, _)| name == "shop/Add"));
    assert_eq!(catalog.functions().count(), 4);
}

#[test]
fn former_forms_are_kept_with_the_type_that_reads_them_without_a_look_at_the_rows() {
    let old = before_versions();
    let second = succeed(&old, &code(&[v2(), v1()]), &Untouched).unwrap();
    let former = &entry(&second).former;
    assert_eq!(former.len(), 1);
    assert_eq!(
        (former[0].version, former[0].read_as.as_deref()),
        (1, Some("TotalV1"))
    );
    assert_eq!(
        (former[0].schema, &former[0].shape),
        (entry(&old).schema(), &entry(&old).shape)
    );
    assert_eq!(
        (old.version, second.version),
        (1, 2),
        "earlier programs are not to read it"
    );
    let text = serde_json::to_vec(&second).unwrap();
    assert_eq!(Catalog::parse(&text, Path::new("x")).unwrap(), second);

    // The third has the fields of the second, and is another form all the same.
    let third = succeed(&second, &code(&[v3(), v2(), v1()]), &Untouched).unwrap();
    let versions: Vec<u32> = entry(&third)
        .former
        .iter()
        .map(|former| former.version)
        .collect();
    assert_eq!(versions, [1, 2]);
    let again = succeed(&third, &code(&[v3(), v2(), v1()]), &Untouched).unwrap();
    assert_eq!(again, third);
}

#[test]
fn a_version_that_rows_have_and_the_code_does_not_is_refused_by_name() {
    let old = before_versions();
    let second = succeed(&old, &code(&[v2(), v1()]), &Untouched).unwrap();
    let (one, two) = (entry(&old).schema(), entry(&second).schema());
    let store = rows(&second, &[one, two, one, two]);
    let changes = succeed(&second, &code(&[v2()]), &store).unwrap_err();
    assert_eq!(
        changes[0].to_string(),
        "state `total` of `shop/cart`: 2 rows of version 1 are still stored: keep `TotalV1` and its migration, \
         or say `--drop-data shop/cart:total` to delete all of its rows\n      they are value of Total { count: u64 }"
    );
    assert_eq!(changes.len(), 1);

    // Without such rows it is forgotten, and without rows at all everything is.
    let store = rows(&second, &[two, two]);
    let next = succeed(&second, &code(&[v2()]), &store).unwrap();
    assert_eq!((entry(&next).former.len(), next.version), (0, 2));
    let next = succeed(&second, &code(&[v1()]), &rows(&second, &[one])).unwrap();
    assert_eq!((entry(&next).version, entry(&next).former.len()), (1, 1));
}

#[test]
fn rows_of_a_form_that_nobody_recorded_count_as_of_the_oldest() {
    let second = succeed(&before_versions(), &code(&[v2(), v1()]), &Untouched).unwrap();
    let store = rows(&second, &[12345]);
    let changes = succeed(&second, &code(&[v2()]), &store).unwrap_err();
    assert!(
        changes[0].to_string().contains("1 rows of version 1"),
        "{changes:?}"
    );
}

#[test]
fn the_type_of_a_version_must_read_what_was_recorded_of_it() {
    let old = before_versions();
    let store = rows(&old, &[entry(&old).schema()]);
    let wrong = form(1, "TotalV1", total("TotalV1", "count", Shape::Uint(32)));
    let changes = succeed(&old, &code(&[v2(), wrong]), &store).unwrap_err();
    assert!(
        changes[0].to_string().contains(
            "1 rows of version 1 are still stored: `TotalV1` no longer reads them (`count`: it was u64, and is u32), so restore it"
        ),
        "{changes:?}"
    );
    // Without a version it is a change as it always was.
    let other = form(1, "Total", total("Total", "count", Shape::String));
    let changes = succeed(&old, &code(&[other]), &store).unwrap_err();
    assert!(
        matches!(changes[0], Change::StateChanged { .. }),
        "{changes:?}"
    );
}

//! What the compiler says of mistakes: each file under `ui/` fails to compile, with the messages beside it.

#[test]
fn mistakes_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*/*.rs");
}

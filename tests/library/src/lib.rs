//! A library of functions, of which an application uses no name: `use statefun_tests_library as _;` is all.

mod shelf;

use statefun_core::shape::Shaped;

#[derive(Shaped)]
#[shaped(fromat = "protobuf")]
struct A {}

#[derive(Shaped)]
#[shaped(format = "json")]
struct B {}

#[derive(Shaped)]
#[shaped]
struct C {}

#[derive(Shaped)]
struct D<'a>(&'a str);

fn main() {}

//! The applications whose processes and data directories the damage tests maltreat; `DAMAGE_APP` says which one runs.

mod everything;
mod load;
mod shop;

use statefun_core::app::App;

fn main() -> statefun_core::Exit {
    let name = std::env::var("DAMAGE_APP").unwrap_or_default();
    match name.as_str() {
        "everything" => App::unlinked().module(everything::Everything).main(),
        "load" => App::unlinked().module(load::Load).main(),
        variant => App::unlinked().module(shop::Shop::of(variant)).main(),
    }
}

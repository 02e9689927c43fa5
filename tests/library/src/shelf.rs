//! A function and a router, private to a private module.

use statefun_core::prelude::*;

/// Remembers what was put on it.
#[stateful_function(typename = "library/shelf", accepts(String))]
struct Shelf {
    #[persisted]
    titles: PersistedBuffer<String>,
}

impl Handle<String> for Shelf {
    fn handle(&mut self, title: String, _: &mut Context<'_, Self>) -> HandlerResult {
        self.titles.append(title);
        Ok(())
    }
}

#[router(ingress = "library/books", to(Shelf))]
fn books(title: String, out: &mut Downstream<'_>) -> RouterResult {
    let shelf = title.chars().next().map(String::from).unwrap_or_default();
    out.forward(Shelf::at(shelf), title);
    Ok(())
}

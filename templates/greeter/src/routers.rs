//! From a record of an ingress to the functions that it is for.

use statefun::prelude::*;

use crate::functions::Greeter;
use crate::messages::GreetRequest;

/// A request is for its user's greeter. A router may forward to several functions, or to none.
#[router(ingress = "example/greets", to(Greeter))]
fn greets(request: GreetRequest, out: &mut Downstream<'_>) -> RouterResult {
    out.forward(Greeter::at(&request.user_id), request);
    Ok(())
}

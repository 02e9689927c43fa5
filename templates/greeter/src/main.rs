//! Greets people by how often they were seen, and has the greetings sent by e-mail.

mod functions;
mod messages;
mod routers;

fn main() -> statefun::Exit {
    statefun::main()
}

#[cfg(test)]
mod tests;

//! Greets people by how often they were seen, and has the greetings sent by e-mail.

mod functions;
#[cfg(test)]
mod tests;

fn main() -> statefun::Exit {
    statefun::main()
}

//! Counts how often each name comes by.

use statefun::prelude::*;

/// A name came by.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/Seen")]
struct Seen {
    name: String,
}

/// How often it did so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "example/Count")]
struct Count {
    name: String,
    count: u64,
}

/// Where counts leave the application: `id` of an egress in module.yaml.
const COUNTS: EgressId<Count> = EgressId::new("example/counts");

/// One instance per name. Its fields marked `#[persisted]` are kept, across restarts too.
#[stateful_function(typename = "example/counter", accepts(Seen), egress(COUNTS))]
struct Counter {
    #[persisted]
    count: PersistedValue<u64>,
}

impl Handle<Seen> for Counter {
    fn handle(&mut self, seen: Seen, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.count += 1;
        if *self.count == 1 {
            tracing::info!("seen for the first time"); // the log line says whose it is
        }
        ctx.egress(
            COUNTS,
            &Count {
                name: seen.name,
                count: *self.count,
            },
        );
        Ok(())
    }
}

fn main() -> statefun::Exit {
    statefun::main()
}

#[cfg(test)]
mod tests;

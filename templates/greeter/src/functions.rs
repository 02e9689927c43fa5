//! The functions. Each has one instance per id, made when its first message comes; one thread at a time runs it.
//!
//! What a handler changes and sends takes effect together when it returns `Ok`. After an error nothing of it remains, and it
//! is tried again.

use statefun::prelude::*;

use crate::messages::{EMAILS, Email, GreetRequest, Greeting};

/// Greets one user.
#[stateful_function(
    typename = "example/greeter",
    accepts(GreetRequest),
    sends(EmailSender)
)]
pub(crate) struct Greeter {
    /// Kept across restarts. Reads as 0 until it is set.
    #[persisted(name = "seen-count")]
    seen_count: PersistedValue<u32>,
}

impl Handle<GreetRequest> for Greeter {
    fn handle(&mut self, request: GreetRequest, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.seen_count += 1;
        // The log line says by itself whose it is; `STATEFUN_LOG=debug` shows more.
        tracing::info!(visits = *self.seen_count, "greeted");
        let greeting = greeting(&request.name, *self.seen_count);
        ctx.send(
            EmailSender::at(&request.user_id),
            Email {
                user_id: request.user_id,
                subject: format!("Visit {}", greeting.seen),
                body: greeting.text.clone(),
            },
        );
        // Somebody who waits for the answer (`statefun call`, or `?wait` in the URL) gets it.
        if ctx.caller().is_some() {
            ctx.reply(greeting)?;
        }
        Ok(())
    }
}

fn greeting(name: &str, seen: u32) -> Greeting {
    let text = match seen {
        0 | 1 => format!("Welcome, {name}!"),
        2 => format!("Nice to see you again, {name}."),
        3 => format!("Third time lucky, {name}!"),
        _ => format!("Hello {name}, you have been here {seen} times."),
    };
    Greeting { seen, text }
}

/// Sends the e-mails of one user, but none twice in a row.
#[stateful_function(typename = "example/email-sender", accepts(Email), egress(EMAILS))]
pub(crate) struct EmailSender {
    /// The last one. It is forgotten a day after it was sent.
    #[persisted(expire_after_write = "1d")]
    last_body: PersistedValue<String>,
}

impl Handle<Email> for EmailSender {
    fn handle(&mut self, email: Email, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if *self.last_body != email.body {
            ctx.egress(EMAILS, &email);
            self.last_body.set(email.body);
        }
        Ok(())
    }
}

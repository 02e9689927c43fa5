//! Two functions: the greeter counts and greets, the e-mail sender writes what is to be sent.

use statefun::prelude::*;

/// Somebody came in.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/GreetRequest")]
pub(crate) struct GreetRequest {
    /// Who it is; also the id of the greeter's instance.
    pub(crate) user_id: String,
    /// How to address them.
    pub(crate) first_name: String,
}

/// What they are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "example/Greeting")]
pub(crate) struct Greeting {
    pub(crate) user_id: String,
    /// How often they were seen, this time included.
    pub(crate) seen: u32,
    pub(crate) text: String,
}

/// An e-mail to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "example/Email")]
pub(crate) struct Email {
    pub(crate) to: String,
    /// The number of the e-mail to this person.
    #[serde(default)]
    pub(crate) number: u32,
    pub(crate) body: String,
}

/// Where e-mails leave the application.
pub(crate) const EMAILS: EgressId<Email> = EgressId::new("example/emails");

/// Greets one person: there is one instance per user id.
#[stateful_function(
    typename = "example/greeter",
    accepts(GreetRequest),
    sends(EmailSender)
)]
pub(crate) struct Greeter {
    #[persisted(name = "seen-count")]
    seen_count: PersistedValue<u32>,
}

impl Handle<GreetRequest> for Greeter {
    fn handle(&mut self, request: GreetRequest, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.seen_count += 1;
        let seen = *self.seen_count;
        let text = greeting(&request.first_name, seen);
        let email = Email {
            to: request.user_id.clone(),
            number: 0,
            body: text.clone(),
        };
        ctx.send(EmailSender::at(&request.user_id), email);
        // A client that waits gets the greeting as its answer.
        if ctx.caller().is_some() {
            ctx.reply(Greeting {
                user_id: request.user_id,
                seen,
                text,
            })?;
        }
        Ok(())
    }
}

fn greeting(name: &str, seen: u32) -> String {
    match seen {
        0 | 1 => format!("Welcome, {name}!"),
        2 => format!("Nice to see you again, {name}."),
        3 => format!("Third time lucky, {name}!"),
        _ => format!("Hello {name}, you have been here {seen} times."),
    }
}

/// Sends e-mails to one person, in order.
#[stateful_function(typename = "example/email-sender", accepts(Email), egress(EMAILS))]
pub(crate) struct EmailSender {
    #[persisted]
    sent: PersistedValue<u32>,
}

impl Handle<Email> for EmailSender {
    fn handle(&mut self, mut email: Email, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.sent += 1;
        email.number = *self.sent;
        ctx.egress(EMAILS, &email);
        Ok(())
    }
}

/// Takes a request to the greeter of its user.
#[router(ingress = "example/greets", to(Greeter))]
fn greets(request: GreetRequest, out: &mut Downstream<'_>) -> RouterResult {
    out.forward(Greeter::at(&request.user_id), request);
    Ok(())
}

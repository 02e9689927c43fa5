//! What comes in, what functions tell each other, and what goes out.
//!
//! Messages are JSON unless they say otherwise: `#[message(typename = "…", format = "msgpack")]`.

use statefun::prelude::*;

/// Somebody came in.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "example/GreetRequest")]
pub(crate) struct GreetRequest {
    /// Who it is. Each user has a greeter and an e-mail sender of their own.
    pub(crate) user_id: String,
    /// How to address them.
    pub(crate) name: String,
}

/// What they are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "example/Greeting")]
pub(crate) struct Greeting {
    /// How often they were seen, this time included.
    pub(crate) seen: u32,
    pub(crate) text: String,
}

/// An e-mail that is to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "example/Email")]
pub(crate) struct Email {
    pub(crate) user_id: String,
    pub(crate) subject: String,
    pub(crate) body: String,
}

/// Where e-mails leave the application: `id` of an egress in module.yaml.
pub(crate) const EMAILS: EgressId<Email> = EgressId::new("example/emails");

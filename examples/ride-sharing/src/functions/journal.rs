//! Journals: what they are told, of whatever type.

use statefun::prelude::*;

use crate::messages::{AskJournal, JournalEntry, JournalPages};

/// A journal; the id is that of the ride whose observer it is.
///
/// It accepts [`TypedValue`], and so is given every message whose type it does not accept by itself. The entries are a
/// buffer: writing one reads none of the others.
#[stateful_function(typename = "rides/journal", accepts(TypedValue, AskJournal))]
#[derive(Debug)]
pub struct Journal {
    #[persisted(expire_after_write = "1h")]
    entries: PersistedBuffer<JournalEntry>,
}

impl Handle<TypedValue> for Journal {
    fn handle(&mut self, value: TypedValue, _: &mut Context<'_, Self>) -> HandlerResult {
        let text = String::from_utf8_lossy(&value.value).into_owned();
        self.entries.append(JournalEntry {
            typename: value.typename.to_string(),
            value: text,
        });
        Ok(())
    }
}

impl Handle<AskJournal> for Journal {
    fn handle(&mut self, _: AskJournal, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if ctx.caller().is_some() {
            ctx.reply(JournalPages {
                entries: self.entries.view()?,
            })?;
        }
        Ok(())
    }
}

//! A function with every kind of state, in several versions of its type.

use statefun_core::prelude::*;

/// The function of one version. `Item` is what it is there, with `of(text)` and `text()`.
macro_rules! basket {
    () => {
        #[stateful_function(
            typename = "evolution/basket",
            accepts(String, bool),
            retry(max_attempts = 1)
        )]
        pub(crate) struct Basket {
            #[persisted]
            last: PersistedValue<Item>,
            #[persisted]
            by_name: PersistedTable<String, Item>,
            #[persisted]
            all: PersistedBuffer<Item>,
        }

        /// Takes an item in; `nothing` empties it.
        impl Handle<String> for Basket {
            fn handle(&mut self, text: String, _: &mut Context<'_, Self>) -> HandlerResult {
                if text == "nothing" {
                    self.last.clear();
                    self.by_name.clear()?;
                    self.all.clear();
                    return Ok(());
                }
                self.last.set(Item::of(&text));
                self.by_name.set(text.clone(), Item::of(&text));
                self.all.append(Item::of(&text));
                Ok(())
            }
        }

        /// Tells all items; changes nothing.
        impl Handle<bool> for Basket {
            fn handle(&mut self, _: bool, ctx: &mut Context<'_, Self>) -> HandlerResult {
                let mut shown: Vec<String> =
                    self.last.get().iter().map(|item| item.text()).collect();
                let entries = self.by_name.entries()?;
                shown.extend(entries.iter().map(|(_, item)| item.text()));
                let all = self.all.view()?;
                shown.extend(all.iter().map(Item::text));
                Ok(ctx.reply(shown.join(" "))?)
            }
        }
    };
}

/// Before there were versions.
pub(crate) mod v1 {
    use super::*;

    #[persisted]
    #[derive(Debug, PartialEq)]
    pub(crate) struct Item {
        pub(crate) text: String,
    }

    impl Item {
        pub(crate) fn of(text: &str) -> Self {
            let text = text.to_owned();
            Self { text }
        }
        fn text(&self) -> String {
            format!("v1:{}", self.text)
        }
    }

    basket!();
}

/// A field was added that needs no migration.
pub(crate) mod v1_with_a_note {
    use super::*;

    #[persisted]
    pub(crate) struct Item {
        text: String,
        note: Option<String>,
    }

    impl Item {
        fn of(text: &str) -> Self {
            let (text, note) = (text.to_owned(), Some("noted".to_owned()));
            Self { text, note }
        }
        fn text(&self) -> String {
            format!(
                "v1:{}{}",
                self.text,
                self.note.as_deref().unwrap_or_default()
            )
        }
    }

    basket!();
}

/// The text became a number.
pub(crate) mod v2 {
    use super::*;

    /// As the author keeps it: with all fields that rows of version 1 may have, under another name.
    #[persisted]
    pub(crate) struct ItemV1 {
        pub(crate) text: String,
        pub(crate) note: Option<String>,
    }

    #[persisted(version = 2, migrate_from = ItemV1)]
    #[derive(Debug, PartialEq)]
    pub(crate) struct Item {
        pub(crate) number: i64,
        pub(crate) note: String,
    }

    impl TryFrom<ItemV1> for Item {
        type Error = String;

        fn try_from(old: ItemV1) -> Result<Self, String> {
            assert_ne!(old.text, "panic", "as the author wrote it");
            let number = old
                .text
                .parse()
                .map_err(|_| format!("`{}` is no number", old.text))?;
            let note = old.note.unwrap_or_default();
            Ok(Self { number, note })
        }
    }

    impl Item {
        pub(crate) fn of(text: &str) -> Self {
            let number = text.parse().unwrap_or_default();
            Self {
                number,
                note: String::new(),
            }
        }
        fn text(&self) -> String {
            format!("v2:{}{}", self.number, self.note)
        }
    }

    basket!();
}

/// The same fields, which mean something else.
pub(crate) mod v3 {
    use super::*;

    pub(crate) use super::v2::Item as ItemV2;

    #[persisted(version = 3, migrate_from = ItemV2)]
    #[derive(Debug, PartialEq)]
    pub(crate) struct Item {
        pub(crate) number: i64,
        pub(crate) note: String,
    }

    impl From<ItemV2> for Item {
        fn from(old: ItemV2) -> Self {
            let ItemV2 { number, note } = old;
            Self {
                number: number * 100,
                note,
            }
        }
    }

    impl Item {
        fn of(text: &str) -> Self {
            let number = text.parse().unwrap_or_default();
            Self {
                number,
                note: String::new(),
            }
        }
        fn text(&self) -> String {
            format!("v3:{}{}", self.number, self.note)
        }
    }

    basket!();
}

/// The migration from version 2 on is there, the one from version 1 is not.
pub(crate) mod v3_without_v1 {
    use super::*;

    #[persisted(version = 2)]
    pub(crate) struct ItemV2 {
        number: i64,
        note: String,
    }

    #[persisted(version = 3, migrate_from = ItemV2)]
    pub(crate) struct Item {
        number: i64,
        note: String,
    }

    impl From<ItemV2> for Item {
        fn from(old: ItemV2) -> Self {
            let ItemV2 { number, note } = old;
            Self {
                number: number * 100,
                note,
            }
        }
    }

    impl Item {
        fn of(text: &str) -> Self {
            let number = text.parse().unwrap_or_default();
            Self {
                number,
                note: String::new(),
            }
        }
        fn text(&self) -> String {
            format!("v3:{}{}", self.number, self.note)
        }
    }

    basket!();
}

/// Version 2 without any migration.
pub(crate) mod v2_alone {
    use super::*;

    #[persisted(version = 2)]
    pub(crate) struct Item {
        number: i64,
        note: String,
    }

    impl Item {
        fn of(text: &str) -> Self {
            let number = text.parse().unwrap_or_default();
            Self {
                number,
                note: String::new(),
            }
        }
        fn text(&self) -> String {
            format!("v2:{}{}", self.number, self.note)
        }
    }

    basket!();
}

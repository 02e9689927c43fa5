//! One application in several versions of its code, as changes over time make them.
#![allow(
    clippy::wildcard_imports,
    reason = "each version is the code above it, but for what it changes"
)]

use statefun_core::prelude::*;
use statefun_core::sdk::module::{Binder, GlobalConfiguration, Module};

/// A version of the application.
pub(crate) struct Shop {
    version: String,
}

impl Shop {
    pub(crate) fn of(version: &str) -> Self {
        Self {
            version: version.to_owned(),
        }
    }
}

impl Module for Shop {
    fn configure(&self, _global: &GlobalConfiguration, binder: &mut Binder) {
        match self.version.as_str() {
            "shop" => {
                binder.register::<base::Cart>();
                binder.register::<base::Audit>();
                binder.register::<base::Courier>();
            }
            "shop-state-changed" => {
                binder.register::<state_changed::Cart>();
                binder.register::<base::Audit>();
                binder.register::<base::Courier>();
            }
            "shop-message-changed" => {
                binder.register::<message_changed::Cart>();
                binder.register::<base::Audit>();
                binder.register::<base::Courier>();
            }
            "shop-field-added" => {
                binder.register::<field_added::Cart>();
                binder.register::<base::Audit>();
                binder.register::<base::Courier>();
            }
            "shop-table-gone" => {
                binder.register::<table_gone::Cart>();
                binder.register::<base::Audit>();
                binder.register::<base::Courier>();
            }
            "shop-v2" => {
                binder.register::<version_two::Cart>();
                binder.register::<base::Audit>();
                binder.register::<base::Courier>();
            }
            "shop-v2-without-v1" => {
                binder.register::<version_two_alone::Cart>();
                binder.register::<base::Audit>();
                binder.register::<base::Courier>();
            }
            "shop-audit-gone" => {
                binder.register::<base::Cart>();
                binder.register::<base::Courier>();
            }
            "shop-courier-gone" => {
                binder.register::<base::Cart>();
                binder.register::<base::Audit>();
            }
            other => {
                binder.refuse(format_args!("DAMAGE_APP: there is no `{other}`"));
            }
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "shop/Add")]
struct Add {
    item: String,
    count: u64,
    /// Leaves a note that arrives so long from now.
    #[serde(default)]
    note_after_ms: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "shop/Query")]
struct Query {}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "shop/Shown")]
struct Shown {
    total: u64,
    notes: u64,
    items: u64,
}

/// What differs between the versions of a total.
trait Totals {
    fn add(&mut self, count: u64);
    fn total(&self) -> u64;
}

/// The cart of one version; `Total` and `Note` are what they are there. The one without a table has none.
macro_rules! cart {
    (with table) => {
        #[stateful_function(typename = "shop/cart", accepts(Add, Query, Note))]
        pub(crate) struct Cart {
            #[persisted]
            total: PersistedValue<Total>,
            #[persisted]
            notes: PersistedValue<u64>,
            #[persisted]
            items: PersistedTable<String, u64>,
        }

        impl Cart {
            fn put(&mut self, item: String, count: u64) -> HandlerResult {
                Ok(self
                    .items
                    .update(item, |before| *before += count)
                    .map(|_| ())?)
            }

            fn items(&mut self) -> Result<u64, HandlerError> {
                Ok(self.items.keys()?.len() as u64)
            }
        }

        cart!(handlers);
    };
    (without table) => {
        #[stateful_function(typename = "shop/cart", accepts(Add, Query, Note))]
        pub(crate) struct Cart {
            #[persisted]
            total: PersistedValue<Total>,
            #[persisted]
            notes: PersistedValue<u64>,
        }

        impl Cart {
            fn put(&mut self, _: String, _: u64) -> HandlerResult {
                Ok(())
            }

            fn items(&mut self) -> Result<u64, HandlerError> {
                Ok(0)
            }
        }

        cart!(handlers);
    };
    (handlers) => {
        impl Handle<Add> for Cart {
            fn handle(&mut self, add: Add, ctx: &mut Context<'_, Self>) -> HandlerResult {
                self.total.add(add.count);
                self.put(add.item, add.count)?;
                if let Some(ms) = add.note_after_ms {
                    let own = Self::at(ctx.id());
                    ctx.send_after(Duration::from_millis(ms), own, Note::default());
                }
                Ok(())
            }
        }

        impl Handle<Note> for Cart {
            fn handle(&mut self, _: Note, _: &mut Context<'_, Self>) -> HandlerResult {
                *self.notes += 1;
                Ok(())
            }
        }

        impl Handle<Query> for Cart {
            fn handle(&mut self, _: Query, ctx: &mut Context<'_, Self>) -> HandlerResult {
                let shown = Shown {
                    total: self.total.total(),
                    notes: *self.notes,
                    items: self.items()?,
                };
                Ok(ctx.reply(shown)?)
            }
        }
    };
}

mod base {
    use super::*;

    #[persisted]
    pub(crate) struct Total {
        count: u64,
    }
    impl Totals for Total {
        fn add(&mut self, count: u64) {
            self.count += count;
        }
        fn total(&self) -> u64 {
            self.count
        }
    }

    #[derive(Debug, Clone, Default, Serialize, Deserialize, Message)]
    #[message(typename = "shop/Note")]
    pub(crate) struct Note {
        text: String,
    }

    cart!(with table);

    /// Has data, and timers.
    #[stateful_function(typename = "shop/audit", accepts(Add, Query))]
    pub(crate) struct Audit {
        #[persisted]
        seen: PersistedValue<u64>,
    }

    impl Handle<Add> for Audit {
        fn handle(&mut self, add: Add, ctx: &mut Context<'_, Self>) -> HandlerResult {
            if add.count > 0 {
                *self.seen += add.count;
            }
            if let Some(ms) = add.note_after_ms {
                let later = Add {
                    note_after_ms: None,
                    ..add
                };
                let own = Self::at(ctx.id());
                ctx.send_after(Duration::from_millis(ms), own, later);
            }
            Ok(())
        }
    }

    impl Handle<Query> for Audit {
        fn handle(&mut self, _: Query, ctx: &mut Context<'_, Self>) -> HandlerResult {
            let shown = Shown {
                total: *self.seen,
                notes: 0,
                items: 0,
            };
            Ok(ctx.reply(shown)?)
        }
    }

    const PARCELS: EgressId<Shown> = EgressId::new("shop/parcels");

    /// Has no state, only output.
    #[stateful_function(typename = "shop/courier", accepts(Shown), egress(PARCELS))]
    pub(crate) struct Courier {}

    impl Handle<Shown> for Courier {
        fn handle(&mut self, shown: Shown, ctx: &mut Context<'_, Self>) -> HandlerResult {
            ctx.egress(PARCELS, &shown);
            Ok(())
        }
    }
}

mod state_changed {
    use super::base::Note;
    use super::*;

    #[persisted]
    pub(crate) struct Total {
        count: String,
    }
    impl Totals for Total {
        fn add(&mut self, count: u64) {
            self.count = (self.total() + count).to_string();
        }
        fn total(&self) -> u64 {
            self.count.parse().unwrap_or_default()
        }
    }

    cart!(with table);
}

mod message_changed {
    use super::base::Total;
    use super::*;

    #[derive(Debug, Clone, Default, Serialize, Deserialize, Message)]
    #[message(typename = "shop/Note")]
    pub(crate) struct Note {
        text: u64,
    }

    cart!(with table);
}

mod field_added {
    use super::*;

    #[persisted]
    pub(crate) struct Total {
        count: u64,
        #[serde(default)]
        last: String,
        adds: Option<u64>,
    }
    impl Totals for Total {
        fn add(&mut self, count: u64) {
            self.count += count;
            self.last = count.to_string();
            *self.adds.get_or_insert_default() += 1;
        }
        fn total(&self) -> u64 {
            self.count
        }
    }

    #[derive(Debug, Clone, Default, Serialize, Deserialize, Message)]
    #[message(typename = "shop/Note")]
    pub(crate) struct Note {
        text: String,
        #[serde(default)]
        urgent: bool,
        from: Option<String>,
    }

    cart!(with table);
}

mod table_gone {
    use super::base::{Note, Total};
    use super::*;

    cart!(without table);
}

/// The total became a text, and rows of the first version are read.
mod version_two {
    use super::base::Note;
    use super::*;

    #[persisted]
    pub(crate) struct TotalV1 {
        count: u64,
    }

    #[persisted(version = 2, migrate_from = TotalV1)]
    pub(crate) struct Total {
        pieces: String,
    }

    impl TryFrom<TotalV1> for Total {
        type Error = String;

        /// The total of one of the carts is one that it refuses.
        fn try_from(old: TotalV1) -> Result<Self, String> {
            if old.count == 1 + 5 + 9 + 13 + 17 {
                return Err(format!("{} is no total", old.count));
            }
            let pieces = old.count.to_string();
            Ok(Self { pieces })
        }
    }

    impl Totals for Total {
        fn add(&mut self, count: u64) {
            self.pieces = (self.total() + count).to_string();
        }
        fn total(&self) -> u64 {
            self.pieces.parse().unwrap_or_default()
        }
    }

    cart!(with table);
}

/// The same, and the migration was thought to be no longer needed.
mod version_two_alone {
    use super::base::Note;
    use super::*;

    #[persisted(version = 2)]
    pub(crate) struct Total {
        pieces: String,
    }

    impl Totals for Total {
        fn add(&mut self, count: u64) {
            self.pieces = (self.total() + count).to_string();
        }
        fn total(&self) -> u64 {
            self.pieces.parse().unwrap_or_default()
        }
    }

    cart!(with table);
}

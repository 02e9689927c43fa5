//! A store that fails as told, or by chance from a seed, for tests and simulations.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::health::HealthKeeper;
use super::memory::Memory;
use super::objects::{Answer, Cause, Condition, Failure, Objects, Opened, Version};
use super::options::Retries;
use super::pace::Pace;
use super::{Bucket, Inner, ObjectInfo};
use crate::rand::Random;

/// How a request can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No connection: nothing is done.
    Refused,
    /// Answered with 500 before anything was done.
    ErrorBefore,
    /// Answered with 500 after it was done.
    ErrorAfter,
    /// Never answered; nothing is done.
    LostBefore,
    /// Never answered; it is done.
    LostAfter,
    /// Never answered; done when so many further requests have come. Reading does nothing anyway.
    Late(u32),
    /// Answered as it should be, after so long.
    Slow(Duration),
    /// Answered with 429: nothing is done.
    Throttled,
    /// Answered with 409, as if another request were in the way: nothing is done. Of a condition alone.
    Busy,
    /// Fewer bytes come than were announced. Of reading alone.
    Truncated,
    /// Answered with 403.
    Denied,
    /// There is no such bucket.
    NoBucket,
}

/// Which requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Writing, with or without a condition.
    Put,
    /// Reading.
    Get,
    /// Listing.
    List,
    /// Deleting.
    Delete,
}

/// Faults to come. Clones are the same; buckets can share them.
#[derive(Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    down: bool,
    next: VecDeque<(Request, Fault)>,
    chance: Option<(Random, u64)>,
    late: Vec<(u32, Write)>,
    requests: u64,
    faults: u64,
}

/// A write that is done later.
struct Write {
    store: Arc<dyn Objects>,
    name: String,
    /// Nothing: a deletion.
    put: Option<(Bytes, Condition)>,
}

impl Faults {
    /// None, but those that are told.
    pub fn none() -> Self {
        Self::default()
    }

    /// So many in a thousand requests fail in ways that pass.
    pub fn seeded(seed: u64, per_mille: u64) -> Self {
        let faults = Self::default();
        faults.locked(|state| state.chance = Some((Random::seeded(seed), per_mille)));
        faults
    }

    /// The next request of that kind fails so; after those that were told before.
    pub fn next(&self, request: Request, fault: Fault) {
        self.locked(|state| state.next.push_back((request, fault)));
    }

    /// While it is down, no request gets a connection.
    pub fn set_down(&self, down: bool) {
        self.locked(|state| state.down = down);
    }

    /// From now on nothing fails but what is told.
    pub fn stop_chance(&self) {
        self.locked(|state| state.chance = None);
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        self.locked(|state| state.requests)
    }

    /// How many of them have failed.
    pub fn faults(&self) -> u64 {
        self.locked(|state| state.faults)
    }

    /// Does all that would be done later.
    pub async fn land_all(&self) {
        for (_, write) in self.locked(|state| std::mem::take(&mut state.late)) {
            write.land().await;
        }
    }

    fn locked<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request, does what is due, and says how the request fails.
    async fn arrive(&self, request: Request) -> Option<Fault> {
        let (due, fault) = self.locked(|state| {
            state.requests += 1;
            let fault = state.fault(request);
            state.faults += u64::from(fault.is_some());
            for (left, _) in &mut state.late {
                *left = left.saturating_sub(1);
            }
            let due = state.late.extract_if(.., |(left, _)| *left == 0);
            (due.collect::<Vec<_>>(), fault)
        });
        for (_, write) in due {
            write.land().await;
        }
        fault
    }
}

impl State {
    fn fault(&mut self, request: Request) -> Option<Fault> {
        if self.down {
            return Some(Fault::Refused);
        }
        let told = self.next.iter().position(|(kind, _)| *kind == request);
        if let Some((_, fault)) = told.and_then(|at| self.next.remove(at)) {
            return Some(fault);
        }
        let (random, per_mille) = self.chance.as_mut()?;
        if random.below(1000) >= *per_mille {
            return None;
        }
        Some(match random.below(10) {
            0 => Fault::Refused,
            1 => Fault::ErrorBefore,
            2 => Fault::ErrorAfter,
            3 => Fault::LostBefore,
            4 => Fault::LostAfter,
            5 => Fault::Late(1 + random.below(6) as u32),
            6 => Fault::Slow(Duration::from_millis(random.below(20_000))),
            7 => Fault::Throttled,
            8 => Fault::Busy,
            _ => Fault::Truncated,
        })
    }
}

impl Write {
    async fn land(self) {
        // Nobody hears how it ends.
        let _ = match self.put {
            Some((bytes, condition)) => {
                let put = self.store.put(&self.name, bytes, condition);
                put.await.map(|_| ())
            }
            None => self.store.delete(&self.name).await,
        };
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

impl Bucket {
    /// A bucket in memory, which lasts as long as it.
    pub fn in_memory() -> Self {
        Self {
            inner: Arc::new(Inner {
                store: Arc::new(Memory::default()),
                url: "memory://".to_owned(),
                prefix: String::new(),
                retries: Retries::default(),
                pace: None,
                health: HealthKeeper::default(),
                // The same pauses in every run.
                random: Mutex::new(Random::seeded(0)),
            }),
        }
    }

    /// The same objects, reached through these faults. Counts for itself, and sends as fast as it can.
    pub fn with_faults(&self, faults: &Faults) -> Self {
        let store = Faulty {
            store: Arc::clone(&self.inner.store),
            faults: faults.clone(),
        };
        self.over(Arc::new(store), self.inner.retries.clone(), None)
    }

    /// The same objects, reached with another patience. Counts for itself, and sends as fast as it can.
    pub fn with_retries(&self, retries: Retries) -> Self {
        self.over(Arc::clone(&self.inner.store), retries, None)
    }

    pub(super) fn over(
        &self,
        store: Arc<dyn Objects>,
        retries: Retries,
        pace: Option<Pace>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                url: self.inner.url.clone(),
                prefix: self.inner.prefix.clone(),
                retries,
                pace,
                health: HealthKeeper::default(),
                // The same pauses in every run.
                random: Mutex::new(Random::seeded(0)),
            }),
        }
    }
}

/// A store behind faults.
#[derive(Debug)]
struct Faulty {
    store: Arc<dyn Objects>,
    faults: Faults,
}

impl Faulty {
    /// A request that writes, with its fault.
    async fn write<T>(
        &self,
        request: Request,
        conditional: bool,
        effect: Answer<'_, T>,
        later: Write,
    ) -> Result<T, Failure> {
        let Some(fault) = self.faults.arrive(request).await else {
            return effect.await;
        };
        match fault {
            Fault::ErrorAfter => {
                effect.await?;
                Err(Failure::new(Cause::Doubtful, "500: told to fail"))
            }
            Fault::LostAfter => {
                effect.await?;
                std::future::pending().await
            }
            Fault::Late(requests) => {
                self.faults
                    .locked(|state| state.late.push((requests.max(1), later)));
                std::future::pending().await
            }
            Fault::Busy if conditional => Err(Failure::new(Cause::Condition, "409: told to fail")),
            other => before(other, effect).await,
        }
    }
}

/// What fails without having done anything, and what does not fail.
async fn before<T>(fault: Fault, effect: Answer<'_, T>) -> Result<T, Failure> {
    let (cause, problem) = match fault {
        Fault::LostBefore | Fault::Late(_) => return std::future::pending().await,
        Fault::Slow(after) => {
            tokio::time::sleep(after).await;
            return effect.await;
        }
        Fault::Busy | Fault::Truncated => return effect.await,
        Fault::Refused => (Cause::NotBegun, "connection refused"),
        Fault::Throttled => (Cause::NotBegun, "429: told to fail"),
        Fault::Denied => (Cause::Denied, "403: told to fail"),
        Fault::NoBucket => (Cause::NoBucket, "404: told to fail"),
        Fault::ErrorBefore | Fault::ErrorAfter | Fault::LostAfter => {
            (Cause::Doubtful, "500: told to fail")
        }
    };
    Err(Failure::new(cause, problem))
}

impl Objects for Faulty {
    fn put<'a>(&'a self, name: &'a str, bytes: Bytes, condition: Condition) -> Answer<'a, Version> {
        let later = Write {
            store: Arc::clone(&self.store),
            name: name.to_owned(),
            put: Some((bytes.clone(), condition.clone())),
        };
        let conditional = !matches!(condition, Condition::None);
        let effect = self.store.put(name, bytes, condition);
        Box::pin(self.write(Request::Put, conditional, effect, later))
    }

    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> Answer<'a, Opened<'a>> {
        Box::pin(async move {
            let effect = self.store.get(name, range);
            match self.faults.arrive(Request::Get).await {
                None => effect.await,
                Some(Fault::Truncated) => {
                    let opened = effect.await?;
                    Ok(Opened {
                        bytes: opened.bytes + 1,
                        ..opened
                    })
                }
                Some(fault) => before(fault, effect).await,
            }
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<ObjectInfo>> {
        Box::pin(async move {
            let effect = self.store.list(folder);
            match self.faults.arrive(Request::List).await {
                None => effect.await,
                Some(fault) => before(fault, effect).await,
            }
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        let later = Write {
            store: Arc::clone(&self.store),
            name: name.to_owned(),
            put: None,
        };
        let effect = self.store.delete(name);
        Box::pin(self.write(Request::Delete, false, effect, later))
    }
}

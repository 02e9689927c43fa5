//! What the calling thread does, and for whom: for log lines, which ask when they are written. Nobody pays before that.
//!
//! A worker says which handler it is in for the watchdog ([`Watched`]), in plain stores; here its own thread reads them back.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::sync::Arc;

use crate::engine::registry::Registry;
use crate::engine::watchdog::Watched;
use crate::id::Address;
use crate::trace::TraceContext;
use crate::trace::current::CurrentSpan;

/// What a thread does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It runs a handler.
    Handler {
        /// Its function's type.
        function: String,
        /// The id of the instance; of a very long one, the beginning.
        id: String,
        /// The epoch that the invocation belongs to.
        epoch: u64,
    },
    /// It runs an operation that `ctx.spawn` has started for an address.
    Operation(Address),
    /// It takes records of an ingress in.
    Routing(String),
}

/// The trace and the span that a piece of work belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceIds {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
}

/// What a thread does, and as part of which trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) doing: Doing,
    pub(crate) trace: Option<TraceIds>,
}

/// Where the thread of a worker finds what it has said of itself.
struct Own {
    watched: Arc<Vec<Watched>>,
    index: usize,
    registry: Arc<Registry>,
}

thread_local! {
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
    static ROUTING: Cell<Option<u16>> = const { Cell::new(None) };
}

tokio::task_local! {
    static OPERATION: (Address, Option<TraceIds>);
}

/// The calling thread is that of a worker from now on.
pub(crate) fn enter_worker(watched: &Arc<Vec<Watched>>, index: usize, registry: &Arc<Registry>) {
    let own = Own {
        watched: watched.clone(),
        index,
        registry: registry.clone(),
    };
    OWN.with(|place| place.replace(Some(own)));
}

/// Takes records of an ingress in: to be called once for many.
pub(crate) fn routing<T>(ingress: u16, take_in: impl FnOnce() -> T) -> T {
    ROUTING.set(Some(ingress));
    let result = take_in();
    ROUTING.set(None);
    result
}

/// An operation of an address, started by an invocation with that context, which knows whose it is whenever it is polled.
pub(crate) fn operation_of<F: Future>(
    address: Address,
    trace: Option<&TraceContext>,
    operation: F,
) -> impl Future<Output = F::Output> + use<F> {
    let ids = trace.map(|context| CurrentSpan::of(context).ids());
    OPERATION.scope((address, ids), operation)
}

/// What the calling thread does just now; none when it is nothing that an application's code takes part in.
pub(crate) fn current() -> Option<Current> {
    let operation = OPERATION.try_with(|(address, trace)| Current {
        doing: Doing::Operation(address.clone()),
        trace: *trace,
    });
    operation.ok().or_else(|| {
        Some(Current {
            doing: of_worker()?,
            trace: crate::trace::current::span().map(CurrentSpan::ids),
        })
    })
}

fn of_worker() -> Option<Doing> {
    // Not while the thread ends.
    let own = OWN.try_with(|own| {
        let own = own.try_borrow().ok()?;
        let own = own.as_ref()?;
        let watched = own.watched.get(own.index)?;
        if let Some(handler) = watched.handler() {
            return Some(handler);
        }
        let wiring = own.registry.ingress(ROUTING.get()?)?;
        Some(Doing::Routing(wiring.id.clone()))
    });
    own.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::registry::{IngressWiring, Parts};
    use crate::id::TypeName;

    fn worker() -> (Arc<Vec<Watched>>, Arc<Registry>) {
        let parts = Parts {
            ingresses: vec![IngressWiring {
                id: "tests/in".to_owned(),
                ..IngressWiring::default()
            }],
            ..Parts::default()
        };
        let registry = Registry::new(parts).unwrap();
        (Arc::new(vec![Watched::default()]), Arc::new(registry))
    }

    fn doing() -> Option<Doing> {
        current().map(|current| current.doing)
    }

    #[test]
    fn a_worker_knows_its_handler_and_its_ingress_and_other_threads_know_nothing() {
        let (watched, registry) = worker();
        assert_eq!(doing(), None);
        enter_worker(&watched, 0, &registry);
        assert_eq!(doing(), None);
        let function = TypeName::parse("tests/current").unwrap();
        watched[0].enter_epoch(7);
        for id in ["", "bob", "12345678", "é".repeat(128).as_str()] {
            watched[0].enter(&Address::new(function, id));
            let expected = Doing::Handler {
                function: "tests/current".to_owned(),
                id: id.to_owned(),
                epoch: 7,
            };
            assert_eq!(doing(), Some(expected));
            watched[0].leave();
            assert_eq!(doing(), None);
        }
        let of_ingress = routing(0, doing);
        assert_eq!(of_ingress, Some(Doing::Routing("tests/in".to_owned())));
        assert_eq!(doing(), None);
        let elsewhere = std::thread::Builder::new().spawn(doing).unwrap();
        assert_eq!(elsewhere.join().unwrap(), None);
    }

    #[test]
    fn of_an_id_that_is_too_long_whole_characters_are_shown() {
        let (watched, registry) = worker();
        enter_worker(&watched, 0, &registry);
        let function = TypeName::parse("tests/current").unwrap();
        // A character of two bytes lies across the limit.
        watched[0].enter(&Address::new(function, format!("x{}", "é".repeat(200))));
        let Some(Doing::Handler { id, .. }) = doing() else {
            panic!("it is in a handler");
        };
        assert_eq!(id, format!("x{}…", "é".repeat(127)));
    }

    #[tokio::test]
    async fn an_operation_knows_whose_it_is_and_its_neighbours_do_not() {
        let address = Address::new(TypeName::parse("tests/current").unwrap(), "ada");
        let context = TraceContext::parse(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            None,
        );
        let operation = operation_of(address.clone(), context.as_ref(), async {
            let before = current();
            tokio::task::yield_now().await;
            (before, current())
        });
        let (of_operation, of_neighbour) = tokio::join!(operation, async { doing() });
        let own = Some(Current {
            doing: Doing::Operation(address),
            trace: Some(TraceIds {
                trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes(),
                span_id: 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes(),
            }),
        });
        assert_eq!(of_operation, (own.clone(), own));
        assert_eq!(of_neighbour, None);
    }
}

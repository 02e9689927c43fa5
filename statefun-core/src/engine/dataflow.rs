//! The Timely shell: one operator per worker, looped to itself. Messages travel on its exchange, labelled with their sender's
//! epoch; the frontier of its input tells when nothing of an epoch is on its way any more.
//!
//! Times are plain epochs and the loop is the operator's own output fed back, declared without any path from input to
//! output: the operator holds one capability, sends only at it, and downgrades it when it cuts.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::Antichain;
use timely::scheduling::Activator;

use crate::engine::driver::Driver;
use crate::engine::priority::take_short_turns;
use crate::engine::shared::{EngineError, Phase, Shared};
use crate::engine::worker::{Batch, WorkerError};

/// No path from an input to an output, or back.
type NoPath = [(usize, Antichain<u64>); 0];

/// A batch on the exchange. Within a process it moves as it is.
#[derive(Debug)]
struct Parcel(Batch);

impl Clone for Parcel {
    fn clone(&self) -> Self {
        Self(Batch {
            to: self.0.to,
            messages: self.0.messages.clone(),
        })
    }
}

impl Serialize for Parcel {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(
            "batches stay within their process",
        ))
    }
}
impl<'de> Deserialize<'de> for Parcel {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(
            "batches stay within their process",
        ))
    }
}

/// Makes the driver of a worker, on the worker's own thread.
pub(crate) type MakeDriver = Arc<dyn Fn(usize) -> Result<Driver, EngineError> + Send + Sync>;

/// The running worker threads.
pub(crate) struct Workers {
    guards: timely::communication::WorkerGuards<()>,
}

impl Workers {
    /// Waits until all have ended, which they do in [`Phase::Stopped`]; names one that panicked.
    pub(crate) fn join(self) -> Result<(), EngineError> {
        for result in self.guards.join() {
            result.map_err(|panic| EngineError::Thread(format!("a worker panicked: {panic}")))?;
        }
        Ok(())
    }
}

/// Starts the worker threads.
pub(crate) fn start(
    workers: usize,
    shared: &Arc<Shared>,
    make: MakeDriver,
) -> Result<Workers, EngineError> {
    let communication = if workers == 1 {
        timely::CommunicationConfig::Thread
    } else {
        timely::CommunicationConfig::Process(workers)
    };
    let config = timely::Config {
        communication,
        worker: timely::WorkerConfig::default(),
    };
    let shared = shared.clone();
    let guards = timely::execute(config, move |timely| {
        let index = timely.index();
        shared.enter(index);
        take_short_turns();
        match make(index) {
            Ok(driver) => run(timely, Rc::new(RefCell::new(driver)), &shared),
            Err(error) => shared.fail(error),
        }
    })
    .map_err(EngineError::Thread)?;
    Ok(Workers { guards })
}

fn run(timely: &mut timely::worker::Worker, driver: Rc<RefCell<Driver>>, shared: &Arc<Shared>) {
    let index = timely.index();
    let activator = build(timely, &driver);
    while shared.phase() != Phase::Stopped {
        if driver.borrow().is_busy() {
            activator.activate();
            timely.step();
            continue;
        }
        shared.set_sleeping(index, true);
        // Whoever asked for something before the flag was set did not call, so look once more.
        let pause = {
            let driver = driver.borrow();
            if driver.is_busy() || shared.phase() == Phase::Stopped {
                Some(Duration::ZERO)
            } else {
                driver.may_sleep()
            }
        };
        timely.step_or_park(pause);
        shared.set_sleeping(index, false);
        activator.activate();
        timely.step();
    }
    // The operator keeps its capability to the end, so the dataflow would never end by itself.
    for dataflow in timely.installed_dataflows() {
        timely.drop_dataflow(dataflow);
    }
}

fn build(timely: &mut timely::worker::Worker, driver: &Rc<RefCell<Driver>>) -> Activator {
    let driver = driver.clone();
    timely.dataflow::<u64, _, _>(|scope| {
        let mut builder = OperatorBuilder::new("functions".to_owned(), scope);
        let (output, stream) = builder.new_output_connection::<Vec<Parcel>, NoPath>([]);
        let exchange = Exchange::new(|parcel: &Parcel| parcel.0.to as u64);
        let mut input = builder.new_input_connection(stream, exchange, [] as NoPath);
        let mut output = OutputBuilder::<u64, CapacityContainerBuilder<Vec<Parcel>>>::from(output);
        let activator = scope.activator_for(builder.operator_info().address);
        builder.build(move |mut capabilities| {
            let mut capability = capabilities.pop();
            if let Some(capability) = &mut capability {
                capability.downgrade(&driver.borrow().epoch());
            }
            move |frontiers| {
                // Without its capability the operator has ended.
                let Some(capability) = capability.as_mut() else { return };
                let mut driver = driver.borrow_mut();
                let driver = &mut *driver;
                let mut output = output.activate();
                let mut failed = None;
                let frontier = frontiers.first().and_then(|input| input.frontier().first().copied());
                {
                    let mut send = |driver: &mut Driver, capability: &timely::dataflow::operators::Capability<u64>| {
                        let batches = driver.take_batches();
                        if !batches.is_empty() {
                            output.session(capability).give_iterator(batches.into_iter().map(Parcel));
                        }
                    };
                    // The order within a cut: send at the old capability, cut, downgrade.
                    let mut cut_to = |driver: &mut Driver,
                                      capability: &mut timely::dataflow::operators::Capability<u64>,
                                      epoch: u64|
                     -> Result<(), WorkerError> {
                        while driver.epoch() < epoch {
                            send(driver, capability);
                            driver.cut()?;
                            capability.downgrade(&driver.epoch());
                        }
                        Ok(())
                    };
                    let mut activation = || -> Result<(), WorkerError> {
                        driver.begin()?;
                        let mut received = Ok(());
                        input.for_each(|time, parcels: &mut Vec<Parcel>| {
                            for parcel in parcels.drain(..) {
                                if received.is_ok() {
                                    let label = time.least().copied().unwrap_or_default();
                                    received = cut_to(driver, capability, label)
                                        .and_then(|()| driver.receive(label, parcel.0));
                                }
                            }
                        });
                        received?;
                        driver.complete(frontier.unwrap_or(u64::MAX));
                        if let Some(epoch) = driver.requested() {
                            driver.run_before_cut()?;
                            cut_to(driver, capability, epoch)?;
                        }
                        driver.work()?;
                        if driver.wants_cut() {
                            driver.run_before_cut()?;
                            let next = driver.epoch() + 1;
                            cut_to(driver, capability, next)?;
                        }
                        Ok(())
                    };
                    if let Err(error) = activation() {
                        failed = Some(error);
                    }
                    send(driver, capability);
                }
                driver.end();
                if let Some(error) = failed {
                    driver.fail(error);
                }
            }
        });
        activator
    })
}

//! When a request is tried again.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{Action, BucketError};
use super::objects::{Cause, Failure};
use super::options::Retries;
use crate::rand::Random;

/// The attempts of one call.
pub(super) struct Retry<'a> {
    retries: &'a Retries,
    url: &'a str,
    action: Action,
    random: Random,
    failures: u32,
    first_failure: Option<Instant>,
    in_doubt: bool,
}

impl<'a> Retry<'a> {
    pub(super) fn new(retries: &'a Retries, url: &'a str, action: Action, seed: u64) -> Self {
        Self {
            retries,
            url,
            action,
            random: Random::seeded(seed),
            failures: 0,
            first_failure: None,
            in_doubt: false,
        }
    }

    /// Whether an attempt may have had its effect although it failed.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// So much of the time does not count.
    pub(super) fn excuse(&mut self, waited: Duration) {
        if let Some(first_failure) = &mut self.first_failure {
            *first_failure += waited;
        }
    }

    /// Waits before the next attempt; an error when there is none.
    pub(super) async fn again(&mut self, failure: Failure) -> Result<(), BucketError> {
        self.in_doubt |= failure.cause == Cause::Doubtful;
        self.again_reading(failure).await
    }

    /// As [`Retry::again`], when what failed has no effect.
    pub(super) async fn again_reading(&mut self, failure: Failure) -> Result<(), BucketError> {
        let url = self.url.to_owned();
        let action = self.action.clone();
        let problem = failure.problem.clone();
        if !failure.is_transient() {
            return Err(match failure.cause {
                // A write to a name that is not there: what is missing is what it should be in.
                Cause::NoBucket | Cause::Missing => BucketError::NoBucket { url, problem },
                Cause::Denied => BucketError::Denied {
                    url,
                    action,
                    problem,
                },
                _ => BucketError::Refused {
                    url,
                    action,
                    problem,
                },
            });
        }
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(*self.first_failure.get_or_insert(now));
        self.failures += 1;
        let left = self.retries.give_up_after.saturating_sub(elapsed);
        if left.is_zero() {
            return Err(BucketError::GaveUp {
                url,
                action,
                attempts: self.failures,
                elapsed,
                problem,
                in_doubt: self.in_doubt,
            });
        }
        // The last attempt is made when the time is up.
        let pause = self.pause().min(left);
        tracing::debug!(
            url,
            %action,
            problem,
            failures = self.failures,
            ?pause,
            "a request to the store of the checkpoints failed; it is tried again"
        );
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Twice as long each time, less up to a half by chance: so those whom a store turned away together do not come back
    /// together.
    fn pause(&mut self) -> Duration {
        let doublings = (self.failures - 1).min(16);
        let full = self
            .retries
            .first_pause
            .saturating_mul(1 << doublings)
            .min(self.retries.longest_pause);
        full.mul_f64(1.0 - self.random.unit() / 2.0)
    }

    /// Nothing was asked of the store.
    pub(super) fn refused(&self, problem: &str) -> BucketError {
        BucketError::Refused {
            url: self.url.to_owned(),
            action: self.action.clone(),
            problem: problem.to_owned(),
        }
    }
}

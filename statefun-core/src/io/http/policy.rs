//! What a receiver's answer means for what was sent, and when to send it again.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{HeaderMap, LOCATION, RETRY_AFTER};

use super::client::Answer;
use crate::clock::WallClock;
use crate::rand::Random;

/// The longest pause that a receiver can ask for.
const LONGEST_ASKED: Duration = Duration::from_hours(1);

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The receiver has it.
    Taken,
    /// The receiver will never take it.
    Refused {
        /// Its answer.
        status: StatusCode,
        /// What it says.
        text: String,
    },
    /// It is to be sent again.
    Again {
        /// Why.
        why: String,
        /// Not before so long.
        after: Option<Duration>,
    },
}

/// Judges an answer.
pub(crate) fn judge(answer: &Answer) -> Verdict {
    let status = answer.status;
    let again = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    if status.is_success() {
        Verdict::Taken
    } else if again {
        Verdict::Again {
            why: format!("it answered {status}"),
            after: retry_after(&answer.headers),
        }
    } else if status.is_client_error() {
        Verdict::Refused {
            status,
            text: answer.text.clone(),
        }
    } else {
        // A redirect concerns all records: it is a mistake in the URL, for which none of them must be lost.
        let to = answer
            .headers
            .get(LOCATION)
            .and_then(|to| to.to_str().ok())
            .unwrap_or("another place");
        Verdict::Again {
            why: format!(
                "it answered {status} and points to {to}, which is not followed: correct the `url`"
            ),
            after: None,
        }
    }
}

/// The pause that the receiver asks for: a number of seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = if let Ok(seconds) = text.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let now =
            SystemTime::UNIX_EPOCH + Duration::from_millis(WallClock::default().now().as_ms());
        httpdate::parse_http_date(text)
            .ok()?
            .duration_since(now)
            .unwrap_or_default()
    };
    Some(asked.min(LONGEST_ASKED))
}

/// Pauses that double.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The pause after so many repetitions: between half of it and all of it, so that not all come again at once; never
    /// shorter than what the receiver asks for.
    pub(crate) fn pause(&self, repetitions: u32, asked: Option<Duration>) -> Duration {
        let factor = 1u32.checked_shl(repetitions).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(factor).min(self.longest);
        let jittered = whole.mul_f64(0.5 + 0.5 * Random::from_system().unit());
        jittered.max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16, header: Option<(&'static str, &str)>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, value.parse().unwrap());
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            text: "text".to_owned(),
        }
    }

    #[test]
    fn verdicts() {
        for taken in [200, 201, 202, 204, 299] {
            assert_eq!(judge(&answer(taken, None)), Verdict::Taken);
        }
        for refused in [400, 401, 403, 404, 409, 410, 413, 422, 451, 499] {
            assert!(
                matches!(judge(&answer(refused, None)), Verdict::Refused { .. }),
                "{refused}"
            );
        }
        for again in [
            301, 302, 304, 307, 408, 425, 429, 500, 502, 503, 504, 599, 600, 999,
        ] {
            assert!(
                matches!(judge(&answer(again, None)), Verdict::Again { .. }),
                "{again}"
            );
        }
        let Verdict::Again { why, .. } = judge(&answer(308, Some(("location", "http://y/"))))
        else {
            panic!()
        };
        assert!(why.contains("http://y/"), "{why}");
    }

    #[test]
    fn what_the_receiver_asks_for() {
        let after = |text: &str| match judge(&answer(503, Some(("retry-after", text)))) {
            Verdict::Again { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("99999999"), Some(LONGEST_ASKED));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let far = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 34));
        assert_eq!(after(&far), Some(LONGEST_ASKED));
        for none in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(after(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn pauses_grow_to_the_longest(repetitions: u32, first in 0_u64..10_000, more in 0_u64..100_000, asked: Option<u16>) {
            let backoff = Backoff { first: Duration::from_millis(first), longest: Duration::from_millis(first + more) };
            let asked = asked.map(|ms| Duration::from_millis(u64::from(ms)));
            let pause = backoff.pause(repetitions, asked);
            let factor = 2_u64.checked_pow(repetitions).unwrap_or(u64::MAX);
            let whole = Duration::from_millis(first.saturating_mul(factor).min(first + more));
            prop_assert!(pause >= (whole / 2).max(asked.unwrap_or_default()), "{pause:?} of {whole:?}");
            prop_assert!(pause <= whole.max(asked.unwrap_or_default()), "{pause:?} of {whole:?}");
        }
    }
}

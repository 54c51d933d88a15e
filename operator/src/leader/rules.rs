//! The rules of the election: from the Lease and what was seen of it before to what to do.
//!
//! Another holder's time stamps are never compared with our clock: a Lease has expired when we have
//! seen no change of it for its duration.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::LeaseSpec;

/// The Lease as it was last seen to change.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    record: Option<(LeaseSpec, Instant)>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Somebody else holds it.
    Wait,
    /// Write it with our identity.
    Write {
        /// How often the holder has changed.
        transitions: i32,
        /// It was not ours before.
        acquired: bool,
    },
}

/// What to do about the Lease.
pub(super) fn decide(
    stored: Option<&LeaseSpec>,
    identity: &str,
    observed: &mut Observed,
    now: Instant,
) -> Decision {
    let Some(stored) = stored else {
        return Decision::Write {
            transitions: 0,
            acquired: true,
        };
    };
    let transitions = stored.lease_transitions.unwrap_or(0);
    let holder = stored.holder_identity.as_deref().unwrap_or_default();
    if holder == identity {
        return Decision::Write {
            transitions,
            acquired: false,
        };
    }
    if observed
        .record
        .as_ref()
        .is_none_or(|(record, _)| record != stored)
    {
        observed.record = Some((stored.clone(), now));
    }
    let duration = u64::try_from(stored.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    let expired = observed
        .record
        .as_ref()
        .is_some_and(|(_, at)| now.saturating_duration_since(*at) >= Duration::from_secs(duration));
    if holder.is_empty() || expired {
        Decision::Write {
            transitions: transitions.saturating_add(1),
            acquired: true,
        }
    } else {
        Decision::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    fn write(transitions: i32, acquired: bool) -> Decision {
        Decision::Write {
            transitions,
            acquired,
        }
    }

    #[test]
    fn a_missing_or_released_lease_is_taken() {
        let now = Instant::now();
        assert_eq!(
            decide(None, "a", &mut Observed::default(), now),
            write(0, true)
        );
        let released = lease("", 3);
        assert_eq!(
            decide(Some(&released), "a", &mut Observed::default(), now),
            write(4, true)
        );
    }

    #[test]
    fn our_own_is_renewed() {
        let ours = lease("a", 3);
        let decision = decide(Some(&ours), "a", &mut Observed::default(), Instant::now());
        assert_eq!(decision, write(3, false));
    }

    #[test]
    fn another_holder_is_waited_for_until_its_lease_stands_still() {
        let (mut observed, start) = (Observed::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let theirs = lease("b", 1);
        assert_eq!(
            decide(Some(&theirs), "a", &mut observed, at(0)),
            Decision::Wait
        );
        assert_eq!(
            decide(Some(&theirs), "a", &mut observed, at(14)),
            Decision::Wait
        );
        let mut renewed = theirs.clone();
        renewed.lease_transitions = Some(2);
        assert_eq!(
            decide(Some(&renewed), "a", &mut observed, at(14)),
            Decision::Wait
        );
        assert_eq!(
            decide(Some(&renewed), "a", &mut observed, at(28)),
            Decision::Wait
        );
        assert_eq!(
            decide(Some(&renewed), "a", &mut observed, at(29)),
            write(3, true)
        );
    }
}

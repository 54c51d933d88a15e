//! A request with the words for it, and the execution of many.
//!
//! An error of the kernel is a number; only who built the request knows which object it was about.

use nix::errno::Errno;

use crate::netlink::{self, Refusal, Request, Socket};

/// One request, what it is about, and which refusals mean that nothing was left to do.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// `add route 10.0.0.0/26`, to stand after "failed to".
    pub(crate) what: String,
    pub(crate) request: Request,
    pub(crate) forgiven: &'static [Errno],
}

/// A change that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to {what}: {refusal}")]
pub struct Failure {
    /// What was to be done with which object.
    pub what: String,
    /// What the kernel says.
    pub refusal: Refusal,
}

/// Changes that did not all succeed, or an observation that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The socket failed; how far the changes got must be read back.
    #[error(transparent)]
    Socket(#[from] netlink::Error),
    /// Some changes were refused; all others were made.
    #[error("{}", list(.0))]
    Refused(Vec<Failure>),
}

/// Refusals that mean: what was to go is not there.
pub(crate) const ABSENT: &[Errno] = &[
    Errno::ENOENT,
    Errno::ESRCH,
    Errno::ENODEV,
    Errno::EADDRNOTAVAIL,
    Errno::ENXIO,
];

impl Step {
    pub(crate) fn new(what: impl Into<String>, request: Request) -> Self {
        Self {
            what: what.into(),
            request,
            forgiven: &[],
        }
    }

    pub(crate) fn forgiving(self, forgiven: &'static [Errno]) -> Self {
        Self { forgiven, ..self }
    }
}

/// Executes steps in order and returns those that failed, with their places.
pub(crate) fn execute(
    socket: &mut Socket,
    steps: &[Step],
) -> Result<Vec<(usize, Failure)>, netlink::Error> {
    let requests: Vec<Request> = steps.iter().map(|step| step.request.clone()).collect();
    let outcomes = socket.request(&requests)?;
    Ok(steps
        .iter()
        .zip(outcomes)
        .enumerate()
        .filter_map(|(place, (step, outcome))| {
            let refusal = outcome.err()?;
            let what = step.what.clone();
            (!step.forgiven.contains(&refusal.errno)).then_some((place, Failure { what, refusal }))
        })
        .collect())
}

fn list(failures: &[Failure]) -> String {
    const SHOWN: usize = 5;
    let mut texts: Vec<String> = failures
        .iter()
        .take(SHOWN)
        .map(Failure::to_string)
        .collect();
    if failures.len() > SHOWN {
        texts.push(format!("and {} more", failures.len() - SHOWN));
    }
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_failures_are_counted_and_the_first_are_named() {
        let failure = |number| Failure {
            what: format!("add route 10.0.{number}.0/24"),
            refusal: Refusal {
                errno: Errno::EEXIST,
                explanation: None,
            },
        };
        let text = Error::Refused((0..8).map(failure).collect()).to_string();
        assert!(
            text.starts_with("failed to add route 10.0.0.0/24: file exists (EEXIST); "),
            "{text}"
        );
        assert!(text.ends_with("and 3 more"), "{text}");
    }
}

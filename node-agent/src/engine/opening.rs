//! The sockets into the kernel, opened again and again until that works.
//!
//! Memory or descriptors may be short at the moment of the start, so a failure is a trouble that is
//! reported, never the end.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::kernel::{Kernel, KernelError};
use super::report::Trouble;
use super::round::Engine;
use crate::backoff::Backoff;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is needed for another attempt.
#[derive(Debug)]
pub(super) struct Opening {
    nft_socket: OwnedFd,
    sysctl_dir: PathBuf,
    state_dir: PathBuf,
    backoff: Backoff,
    at: Instant,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum OpeningError {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No further descriptor.
    #[error("failed to duplicate the nf_tables socket: {0}")]
    Duplicate(#[source] io::Error),
}

impl Opening {
    pub(super) fn new(nft_socket: OwnedFd, sysctl_dir: PathBuf, state_dir: PathBuf) -> Self {
        Self {
            nft_socket,
            sysctl_dir,
            state_dir,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            at: Instant::now(),
        }
    }

    /// When to try next.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    fn attempt(&self) -> Result<Kernel, OpeningError> {
        let nft_socket = self
            .nft_socket
            .try_clone()
            .map_err(OpeningError::Duplicate)?;
        let (sysctl_dir, state_dir) = (self.sysctl_dir.clone(), self.state_dir.clone());
        Ok(Kernel::open(nft_socket, sysctl_dir, state_dir)?)
    }
}

impl Engine {
    /// Tries to open the sockets where they are not open and it is time.
    pub(super) fn open_kernel(&mut self) {
        let now = Instant::now();
        let Some(opening) = self.opening.as_mut().filter(|opening| opening.at <= now) else {
            return;
        };
        match opening.attempt() {
            Ok(kernel) => {
                self.opening = None;
                self.kernel = Some(kernel);
                self.troubles.set(Trouble::Kernel, None);
                self.announce_kernel();
            }
            Err(error) => {
                opening.at = now + opening.backoff.pause();
                let sentence = format!("{error}; the agent tries again");
                if self.troubles.set(Trouble::Kernel, Some(sentence.clone())) {
                    self.event(true, "KernelUnreachable", sentence);
                }
            }
        }
    }
}

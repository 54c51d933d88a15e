//! The container's first process: holds the descriptors that must outlive the worker, starts the
//! worker, starts it again when it dies, and hands the descriptors to its successor at an upgrade.
//!
//! It owns no other state and does nothing else, so that there is little in it that could die.
//! While the nf_tables socket is open, nobody but its holder can change our table.

mod sockets;
mod worker;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cli::Settings;
use crate::errors;
use crate::handover::{self, Answer, Ask, Sockets};
use worker::Worker;

/// How long a worker may take to stop before it is killed; a worker that is killed loses nothing.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a successor that has the descriptors may take to confirm when this process must end.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the supervisor ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Signals cannot be waited for.
    #[error("failed to wait for signals")]
    Signals(#[source] io::Error),
    /// Directory, lock or sockets.
    #[error(transparent)]
    Sockets(#[from] sockets::Error),
}

/// Serves until told to end.
///
/// # Errors
/// Where the run directory or the sockets cannot be made.
pub fn run(settings: &Settings) -> Result<(), Error> {
    let mut supervisor = Supervisor {
        signals: signals().map_err(Error::Signals)?,
        worker: Worker::new(settings),
        ending: false,
    };
    sockets::prepare(settings)?;
    while !supervisor.ending {
        if let Some(sockets) = sockets::acquire(settings)? {
            supervisor.serve(sockets);
            supervisor.idle();
        } else {
            supervisor.wait(&[], Some(Duration::from_millis(100)));
        }
    }
    Ok(())
}

/// What became of the descriptors.
enum Outcome {
    StillOurs,
    HandedOver,
    Released,
}

struct Supervisor {
    signals: SignalFd,
    worker: Worker,
    /// SIGTERM or SIGINT has come.
    ending: bool,
}

impl Supervisor {
    /// Keeps a worker running, until told to end or until the descriptors are no longer ours.
    fn serve(&mut self, sockets: Sockets) {
        let listener = match sockets.handover.try_clone().map(UnixListener::from) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "failed to copy the handover socket");
                return;
            }
        };
        let _ = listener.set_nonblocking(true);
        while !self.ending {
            self.worker.start_if_due(&sockets);
            let pause = self.worker.until_start();
            if !self.wait(&[listener.as_fd()], pause) {
                continue;
            }
            let Ok((mut stream, _)) = listener.accept() else {
                continue;
            };
            let _ = stream.set_nonblocking(false);
            match self.attend(&mut stream, &sockets) {
                Outcome::StillOurs => {}
                Outcome::HandedOver => {
                    tracing::info!("handed over; waiting to be told to end");
                    return;
                }
                Outcome::Released => {
                    drop((sockets, listener));
                    let _ = handover::answer(&mut stream, &Answer::Done);
                    tracing::info!("released the nft table; waiting to be told to end");
                    return;
                }
            }
        }
        self.stop_worker();
    }

    /// Answers a peer on the handover socket.
    fn attend(&mut self, stream: &mut UnixStream, sockets: &Sockets) -> Outcome {
        match handover::hear(stream) {
            Ok(Ask::TakeOver {
                protocol: handover::PROTOCOL,
            }) => self.give(stream, sockets),
            Ok(Ask::Release {
                protocol: handover::PROTOCOL,
            }) => {
                self.stop_worker();
                Outcome::Released
            }
            Ok(Ask::TakeOver { protocol } | Ask::Release { protocol }) => {
                let reason = format!("protocol {protocol} is not {}", handover::PROTOCOL);
                let _ = handover::answer(stream, &Answer::Refused { reason });
                Outcome::StillOurs
            }
            Err(error) => {
                tracing::warn!(
                    error = errors::chain(&error),
                    "refused a request for handover"
                );
                Outcome::StillOurs
            }
        }
    }

    fn give(&mut self, stream: &mut UnixStream, sockets: &Sockets) -> Outcome {
        tracing::info!("another supervisor takes over; stopping the worker");
        self.stop_worker();
        if let Err(error) = handover::give(stream, sockets) {
            tracing::warn!(error = errors::chain(&error), "handover failed; going on");
            return Outcome::StillOurs;
        }
        let _ = stream.set_nonblocking(true);
        let mut told_to_end = None;
        loop {
            match handover::confirmed(stream) {
                Some(true) => return Outcome::HandedOver,
                Some(false) => {
                    tracing::warn!("the other supervisor is gone before it took over; going on");
                    return Outcome::StillOurs;
                }
                None => {}
            }
            let pause = self.ending.then(|| {
                let end = *told_to_end.get_or_insert_with(|| Instant::now() + CONFIRM_TIMEOUT);
                end.saturating_duration_since(Instant::now())
            });
            if pause.is_some_and(|left| left.is_zero()) {
                return Outcome::HandedOver;
            }
            self.wait(&[stream.as_fd()], pause);
        }
    }

    /// Nothing is ours any more: waits to be told to end.
    fn idle(&mut self) {
        while !self.ending {
            self.wait(&[], None);
        }
    }

    /// Stops the worker, by force if need be.
    fn stop_worker(&mut self) {
        let end = Instant::now() + STOP_TIMEOUT;
        self.worker.signal(Signal::SIGTERM);
        while self.worker.is_running() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!("the worker did not stop in time; killing it");
                self.worker.signal(Signal::SIGKILL);
            }
            self.wait(&[], Some(left.max(Duration::from_millis(50))));
        }
        self.worker.forget_start();
    }

    /// Waits for signals, one of `others`, or the pause to pass; true when `others` have something.
    fn wait(&mut self, others: &[std::os::fd::BorrowedFd<'_>], pause: Option<Duration>) -> bool {
        let mut waiting = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        waiting.extend(
            others
                .iter()
                .map(|other| PollFd::new(*other, PollFlags::POLLIN)),
        );
        let timeout = pause.map_or(PollTimeout::NONE, |pause| {
            // Rounded up, so that a pause of less than a millisecond does not spin.
            PollTimeout::try_from(pause + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
        });
        let _ = poll(&mut waiting, timeout);
        let others_ready = waiting.iter().skip(1).any(|fd| fd.any().unwrap_or(false));
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if number == Signal::SIGTERM as i32 || number == Signal::SIGINT as i32 {
                self.ending = true;
            }
        }
        self.reap();
        others_ready
    }

    /// Buries every child that has ended, also those that were left to us as process 1.
    fn reap(&mut self) {
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    self.worker.ended(pid, &format!("exit code {code}"))
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => self.worker.ended(pid, signal.as_str()),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

fn signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        mask.add(signal);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(
        &mask,
        SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
    )?)
}

//! Turns a channel into something that `poll` can wait for: a thread passes inputs on and wakes the
//! engine through a pipe.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::Input;

/// The engine's end.
#[derive(Debug)]
pub(super) struct Inbox {
    inputs: Receiver<Input>,
    wake: PipeReader,
    waker: Waker,
}

/// Ends the engine's wait, with nothing to take.
#[derive(Clone, Debug)]
pub(super) struct Waker(Arc<PipeWriter>);

/// What has arrived since the last look.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) inputs: Vec<Input>,
    /// Nobody can send any more.
    pub(super) closed: bool,
}

impl Inbox {
    /// Starts the thread.
    pub(super) fn new(received: Receiver<Input>) -> io::Result<Self> {
        let (wake, woken) = io::pipe()?;
        for end in [wake.as_fd(), woken.as_fd()] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let (passed, inputs) = channel();
        let waker = Waker(Arc::new(woken));
        let rouser = waker.clone();
        std::thread::Builder::new()
            .name("engine-inbox".to_owned())
            .spawn(move || {
                while let Ok(input) = received.recv() {
                    if passed.send(input).is_err() {
                        return;
                    }
                    rouser.wake();
                }
                drop(passed);
                rouser.wake();
            })?;
        Ok(Self {
            inputs,
            wake,
            waker,
        })
    }

    /// For other threads that have done something for the engine.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Everything that is there.
    pub(super) fn take(&mut self) -> Arrived {
        let mut bytes = [0; 512];
        while self
            .wake
            .read(&mut bytes)
            .is_ok_and(|count| count == bytes.len())
        {}
        let mut arrived = Arrived::default();
        loop {
            match self.inputs.try_recv() {
                Ok(input) => arrived.inputs.push(input),
                Err(TryRecvError::Empty) => return arrived,
                Err(TryRecvError::Disconnected) => {
                    arrived.closed = true;
                    return arrived;
                }
            }
        }
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Waker {
    /// A full pipe wakes as well as one more byte would.
    pub(super) fn wake(&self) {
        let _ = (&*self.0).write(&[1]);
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn inputs_wake_a_poll_and_the_end_is_seen() {
        let (sender, received) = channel();
        let mut inbox = Inbox::new(received).unwrap();
        assert!(inbox.take().inputs.is_empty());
        sender.send(Input::Stop).unwrap();
        let ready = poll(
            &mut [PollFd::new(inbox.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(10_000_u16),
        );
        assert_eq!(ready, Ok(1));
        assert_eq!(inbox.take().inputs.len(), 1);
        drop(sender);
        let mut seen = false;
        while !seen {
            poll(
                &mut [PollFd::new(inbox.as_fd(), PollFlags::POLLIN)],
                PollTimeout::from(10_000_u16),
            )
            .unwrap();
            seen = inbox.take().closed;
        }
    }
}

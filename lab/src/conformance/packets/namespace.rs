//! A network namespace held by a thread that does what it is given in there.

use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace; gone with its thread and all that was started there.
#[derive(Debug)]
pub struct Namespace {
    jobs: Option<Sender<Job>>,
    thread: i32,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(name: &str) -> Result<Self> {
        let (jobs, todo) = channel::<Job>();
        let (made, ready) = channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let entered = unshare(CloneFlags::CLONE_NEWNET);
                let failed = entered.is_err();
                // Whoever waits is told, whatever came out.
                let _ = made.send(entered.map(|()| nix::unistd::gettid().as_raw()));
                if failed {
                    return;
                }
                for job in todo {
                    job();
                }
            })?;
        let thread = ready
            .recv()?
            .context("failed to make a network namespace (is this root?)")?;
        Ok(Self {
            jobs: Some(jobs),
            thread,
        })
    }

    /// The thread, by whose number others name the namespace.
    pub fn thread(&self) -> i32 {
        self.thread
    }

    /// Does something in there and waits for it. Threads and programs that it starts are in there too.
    ///
    /// # Errors
    /// When it panics.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (done, result) = channel();
        let job: Job = Box::new(move || {
            let _ = done.send(work());
        });
        let jobs = self.jobs.as_ref().context("the namespace is gone")?;
        jobs.send(job)
            .map_err(|_| anyhow!("the thread of a namespace has ended"))?;
        result
            .recv()
            .context("the thread of a namespace ended in the middle")
    }

    /// Lets it go.
    pub fn end(&mut self) {
        self.jobs = None;
    }
}

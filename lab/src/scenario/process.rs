//! A program that runs beside the steps: started, known to be ready by its first line, stopped by
//! SIGTERM, its lines collected.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lab::{Spot, start};

/// The newest line that a program has printed.
#[derive(Clone, Debug, Default)]
pub struct Words(Arc<Mutex<String>>);

impl Words {
    /// The line; empty before there is one.
    pub fn last(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, line: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Option<Child>,
    reader: Option<BufReader<ChildStdout>>,
    what: String,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started there.
    pub fn start(spot: &Spot<'_>, argv: &[String]) -> Result<Self> {
        let mut child = start(spot, argv)?;
        let reader = child.stdout.take().map(BufReader::new);
        Ok(Self {
            child: Some(child),
            reader,
            what: argv.join(" "),
        })
    }

    /// Waits for its first line.
    ///
    /// # Errors
    /// When it ends or stays silent.
    pub async fn ready(mut self, limit: Duration) -> Result<Self> {
        let mut reader = self.reader.take().context("its output is already read")?;
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            reader.read_line(&mut line).map(|length| (length, reader))
        });
        let (length, reader) = match tokio::time::timeout(limit, reading).await {
            Ok(read) => read??,
            // Dropping it ends it, and with it the thread that reads.
            Err(_) => bail!("{} said nothing within {} s", self.what, limit.as_secs()),
        };
        self.reader = Some(reader);
        if length == 0 {
            let mut words = String::new();
            if let Some(stderr) = self.child.as_mut().and_then(|child| child.stderr.take()) {
                BufReader::new(stderr).read_line(&mut words)?;
            }
            bail!("{} ended at once: {}", self.what, words.trim());
        }
        Ok(self)
    }

    /// Has its lines read from now on; only the newest is kept.
    ///
    /// # Errors
    /// When somebody reads them already.
    pub fn follow(&mut self) -> Result<Words> {
        let mut reader = self.reader.take().context("its output is already read")?;
        let words = Words::default();
        let newest = words.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
                newest.set(std::mem::take(&mut line));
            }
        });
        Ok(words)
    }

    /// Asks it to end and returns the lines that it printed since.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self, limit: Duration) -> Result<Vec<String>> {
        self.signal(Signal::SIGTERM);
        self.lines(limit).await
    }

    /// Waits for its end and returns the lines that it printed.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn lines(&mut self, limit: Duration) -> Result<Vec<String>> {
        let mut child = self.child.take().context("it has ended already")?;
        let reader = self.reader.take().context("its output is already read")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let reading = tokio::task::spawn_blocking(move || {
            let lines: std::io::Result<Vec<String>> = reader.lines().collect();
            child.wait()?;
            lines
        });
        match tokio::time::timeout(limit, reading).await {
            Ok(lines) => Ok(lines??),
            Err(_) => {
                // The thread has not collected it, so the number is still this child's.
                let _ = kill(pid, Signal::SIGKILL);
                bail!("{} did not end within {} s", self.what, limit.as_secs());
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(pid) = self
            .child
            .as_ref()
            .and_then(|child| i32::try_from(child.id()).ok())
        {
            // It may have ended by itself, which is not yet collected.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

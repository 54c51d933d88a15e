//! Waiting with a limit: ask again shortly until it is so or the time is up.

use std::time::{Duration, Instant};

use anyhow::Result;

/// A moment after which waiting is over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// Is it past?
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// A short while.
    pub async fn pause(self) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Tries until it succeeds or the time is up; then the last error counts.
///
/// # Errors
/// The last one.
pub async fn until<T>(within: Duration, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Deadline::after(within);
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if deadline.is_over() => return Err(error),
            Err(_) => deadline.pause().await,
        }
    }
}

//! Shows what is being done and for how long: a moving line on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Where progress is shown: standard error.
#[derive(Clone, Debug)]
pub struct Progress {
    start: Instant,
    moving: bool,
    quiet: bool,
}

/// Something that takes time.
#[must_use = "a step that is dropped was not done"]
pub struct Step {
    text: String,
    start: Instant,
    total: Instant,
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// Starts the clock.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            moving: std::io::stderr().is_terminal(),
            quiet: false,
        }
    }

    /// Shows nothing.
    pub fn quiet() -> Self {
        Self {
            start: Instant::now(),
            moving: false,
            quiet: true,
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// A line by itself.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("{:6.1} s  {text}", self.start.elapsed().as_secs_f64());
        }
    }

    /// Begins a step.
    pub fn step(&self, text: &str) -> Step {
        let bar = self.moving.then(|| moving_line(text));
        Step {
            text: text.to_owned(),
            start: Instant::now(),
            total: self.start,
            bar,
            quiet: self.quiet,
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Step {
    /// Changes what is shown while it lasts.
    pub fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Ends the step and says how long it took.
    pub fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if !self.quiet {
            let (total, own) = (self.total.elapsed(), self.start.elapsed());
            eprintln!(
                "{:6.1} s  {} ({:.1} s)",
                total.as_secs_f64(),
                self.text,
                own.as_secs_f64()
            );
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn moving_line(text: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

//! Outcomes of scenarios, as a table for people and as files for programs.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::collect::Collected;
use super::stage::Tally;

/// What became of a scenario.
#[derive(Serialize, Clone, Debug)]
pub struct Outcome {
    /// Its sentence.
    pub name: String,
    /// Its file.
    pub file: String,
    /// The lab that it ran on.
    pub lab: String,
    /// Whether the sentence is true.
    pub verdict: Verdict,
    /// How long it took.
    pub seconds: f64,
    /// What was done and counted.
    pub tally: Tally,
    /// What was kept of a failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub collected: Vec<Collected>,
}

/// Whether a scenario's sentence is true.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", tag = "result", content = "why")]
pub enum Verdict {
    /// It is.
    Passed,
    /// It is not: why.
    Failed(String),
    /// It was not tried: why.
    Skipped(String),
}

impl Outcome {
    /// A scenario that was not tried.
    pub fn skipped(name: &str, file: &Path, why: String) -> Self {
        Self {
            name: name.to_owned(),
            file: file.display().to_string(),
            lab: String::new(),
            verdict: Verdict::Skipped(why),
            seconds: 0.0,
            tally: Tally::default(),
            collected: Vec::new(),
        }
    }
}

/// The table that ends a run.
pub fn table(outcomes: &[Outcome]) -> String {
    let width = outcomes
        .iter()
        .map(|outcome| outcome.name.chars().count())
        .max()
        .unwrap_or(0)
        .min(78);
    let mut text = String::new();
    for outcome in outcomes {
        let Outcome {
            name,
            verdict,
            seconds,
            tally,
            ..
        } = outcome;
        let word = match verdict {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "FAILED",
            Verdict::Skipped(_) => "skipped",
        };
        let packets = if tally.packets > 0 {
            format!("{} packets, {} lost", tally.packets, tally.lost)
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "  {word:<8}{name:<width$}  {seconds:>6.1} s  {packets}"
        );
        match verdict {
            Verdict::Passed => {}
            Verdict::Failed(why) | Verdict::Skipped(why) => {
                let _ = writeln!(text, "          {why}");
            }
        }
    }
    let _ = writeln!(text, "{}", summary(outcomes));
    text
}

/// One sentence with the counts, and what losses of zero mean.
pub fn summary(outcomes: &[Outcome]) -> String {
    let count = |which: fn(&Verdict) -> bool| {
        outcomes
            .iter()
            .filter(|outcome| which(&outcome.verdict))
            .count()
    };
    let passed = count(|verdict| *verdict == Verdict::Passed);
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let skipped = count(|verdict| matches!(verdict, Verdict::Skipped(_)));
    let packets: u64 = outcomes.iter().map(|outcome| outcome.tally.packets).sum();
    let lost: u64 = outcomes.iter().map(|outcome| outcome.tally.lost).sum();
    let mut text = if failed == 0 && skipped == 0 {
        format!("all {passed} passed")
    } else {
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    };
    if packets > 0 {
        let _ = write!(text, "; {packets} numbered packets, {lost} lost");
    }
    if packets > 0 && lost == 0 {
        let bound = 3.0 / packets as f64;
        let _ = write!(
            text,
            " (with 95 % confidence the loss is below {bound:.1e})"
        );
    }
    text
}

/// Writes `results.jsonl`, `summary.md` and `junit.xml`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, outcomes: &[Outcome], about: &serde_json::Value) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    let mut lines = format!("{about}\n");
    for outcome in outcomes {
        lines += &(serde_json::to_string(outcome)? + "\n");
    }
    for (name, text) in [
        ("results.jsonl", lines),
        ("summary.md", markdown(outcomes, about)),
        ("junit.xml", junit(outcomes)),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, text)
            .with_context(|| format!("failed to write {}", file.display()))?;
    }
    Ok(())
}

fn markdown(outcomes: &[Outcome], about: &serde_json::Value) -> String {
    let mut text = format!("# Scenarios\n\n{}.\n\n", summary(outcomes));
    for (key, value) in about.as_object().into_iter().flatten() {
        let _ = writeln!(
            text,
            "- {key}: {}",
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        );
    }
    text += "\n| Scenario | Result | Seconds | Steps | Packets | Lost |\n|---|---|---:|---:|---:|---:|\n";
    for outcome in outcomes {
        let Outcome {
            name,
            verdict,
            seconds,
            tally,
            ..
        } = outcome;
        let result = match verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Failed(why) => {
                format!("**failed**: {}", why.replace('|', "\\|").replace('\n', " "))
            }
            Verdict::Skipped(why) => format!("skipped: {why}"),
        };
        let Tally {
            steps,
            packets,
            lost,
            connections: _,
        } = tally;
        let _ = writeln!(
            text,
            "| {name} | {result} | {seconds:.1} | {steps} | {packets} | {lost} |"
        );
    }
    text
}

fn junit(outcomes: &[Outcome]) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
    };
    let mut text = format!(
        "<?xml version=\"1.0\"?>\n<testsuite name=\"scenarios\" tests=\"{}\">\n",
        outcomes.len()
    );
    for outcome in outcomes {
        let (name, class, time) = (
            escape(&outcome.name),
            escape(&outcome.file),
            outcome.seconds,
        );
        let _ = write!(
            text,
            "<testcase name=\"{name}\" classname=\"{class}\" time=\"{time:.3}\">"
        );
        let _ = match &outcome.verdict {
            Verdict::Passed => Ok(()),
            Verdict::Failed(why) => write!(text, "<failure>{}</failure>", escape(why)),
            Verdict::Skipped(why) => write!(text, "<skipped message=\"{}\"/>", escape(why)),
        };
        text += "</testcase>\n";
    }
    text + "</testsuite>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: Verdict, packets: u64, lost: u64) -> Outcome {
        let mut outcome = Outcome::skipped("A <sentence>", Path::new("a.yaml"), String::new());
        outcome.verdict = verdict;
        outcome.tally = Tally {
            packets,
            lost,
            ..Tally::default()
        };
        outcome
    }

    #[test]
    fn the_summary_counts_and_bounds_the_loss() {
        let outcomes = [
            outcome(Verdict::Passed, 3000, 0),
            outcome(Verdict::Passed, 0, 0),
        ];
        assert!(summary(&outcomes).starts_with("all 2 passed; 3000 numbered packets, 0 lost (with 95 % confidence the loss is below 1.0e-3"));
        let outcomes = [
            outcome(Verdict::Failed("x".into()), 10, 1),
            outcome(Verdict::Skipped("y".into()), 0, 0),
        ];
        assert_eq!(
            summary(&outcomes),
            "0 passed, 1 failed, 1 skipped; 10 numbered packets, 1 lost"
        );
        assert!(table(&outcomes).contains("FAILED"));
    }

    #[test]
    fn files_are_written_and_xml_is_escaped() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[outcome(Verdict::Failed("a < b".into()), 0, 0)],
            &serde_json::json!({"kernel": "x"}),
        )
        .unwrap();
        let xml = std::fs::read_to_string(folder.path().join("junit.xml")).unwrap();
        assert!(
            xml.contains("A &lt;sentence&gt;") && xml.contains("<failure>a &lt; b</failure>"),
            "{xml}"
        );
        let text = std::fs::read_to_string(folder.path().join("summary.md")).unwrap();
        assert!(
            text.contains("- kernel: x") && text.contains("**failed**"),
            "{text}"
        );
    }
}

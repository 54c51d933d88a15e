//! From the tests' own JSON report to a list that can be committed: one line a spec, sorted.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::exclusion::Exclusion;

/// How a spec ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should.
    Passed,
    /// It did not run, or stopped by itself because something it needs is not there.
    Skipped,
    /// Anything else.
    Failed,
}

/// A spec and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its full name.
    pub name: String,
    /// How it ended.
    pub state: State,
    /// What it said.
    pub message: String,
}

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(BTreeMap<String, (&'static str, String)>);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Option<Vec<Report>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

/// Reads a report of Ginkgo (`--ginkgo.json-report`).
///
/// # Errors
/// When it is none.
pub fn read(text: &[u8]) -> Result<Vec<Spec>> {
    let suites: Vec<Suite> = serde_json::from_slice(text).context("the report does not read")?;
    let reports = suites.into_iter().flat_map(|suite| suite.spec_reports);
    let specs = reports
        .flatten()
        .filter(|report| report.leaf_node_type == "It");
    let specs = specs.map(|report| {
        let mut words = report.container_hierarchy_texts.unwrap_or_default();
        words.push(report.leaf_node_text);
        let failure = report.failure.map(|failure| failure.message);
        let message = failure.unwrap_or_default();
        Spec {
            name: words.join(" "),
            state: match report.state.as_str() {
                "passed" => State::Passed,
                "skipped" | "pending" => State::Skipped,
                _ => State::Failed,
            },
            message: message.lines().next().unwrap_or_default().to_owned(),
        }
    });
    Ok(specs.collect())
}

/// Specs that an exclusion names, with its reason.
pub fn excluded(focused: &[String], exclusions: &[Exclusion]) -> BTreeMap<String, String> {
    let reason = |name: &String| {
        let found = exclusions
            .iter()
            .find(|exclusion| name.contains(&exclusion.name))?;
        Some((name.clone(), found.reason.clone()))
    };
    focused.iter().filter_map(reason).collect()
}

impl List {
    /// What would run.
    pub fn planned(focused: &[String], excluded: &BTreeMap<String, String>) -> Self {
        let lines = focused.iter().map(|name| {
            let end = match excluded.get(name) {
                Some(reason) => ("left out", reason.clone()),
                None => ("to run", String::new()),
            };
            (name.clone(), end)
        });
        Self(lines.collect())
    }

    /// What became of the specs of a focus.
    pub fn of(report: &[Spec], focused: &[String], excluded: &BTreeMap<String, String>) -> Self {
        let mut list = Self::planned(focused, excluded);
        for spec in report {
            let Some(line) = list.0.get_mut(&spec.name) else {
                continue;
            };
            if excluded.contains_key(&spec.name) {
                continue;
            }
            *line = match spec.state {
                State::Passed => ("passed", String::new()),
                State::Skipped => ("skipped itself", spec.message.clone()),
                State::Failed => ("FAILED", spec.message.clone()),
            };
        }
        list
    }

    /// How many failed, or never ran.
    pub fn failed(&self) -> usize {
        self.count("FAILED") + self.count("to run")
    }

    fn count(&self, end: &str) -> usize {
        self.0.values().filter(|(found, _)| *found == end).count()
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, (end, why)) in &self.0 {
            let why = if why.is_empty() {
                String::new()
            } else {
                format!(" ({why})")
            };
            writeln!(f, "{end}: {name}{why}")?;
        }
        if self
            .0
            .values()
            .all(|(end, _)| matches!(*end, "to run" | "left out"))
        {
            let (run, out) = (self.count("to run"), self.count("left out"));
            return writeln!(f, "{run} to run, {out} left out");
        }
        writeln!(
            f,
            "{} passed, {} failed or never ran, {} skipped themselves, {} left out",
            self.count("passed"),
            self.failed(),
            self.count("skipped itself"),
            self.count("left out")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"[{"SpecReports": [
        {"LeafNodeType": "BeforeSuite", "LeafNodeText": "", "State": "passed"},
        {"ContainerHierarchyTexts": ["Services"], "LeafNodeType": "It", "LeafNodeText": "serves", "State": "passed"},
        {"ContainerHierarchyTexts": ["Services"], "LeafNodeType": "It", "LeafNodeText": "breaks", "State": "timedout",
         "Failure": {"Message": "no answer\nsecond line"}},
        {"ContainerHierarchyTexts": ["Services"], "LeafNodeType": "It", "LeafNodeText": "needs a cloud", "State": "skipped"}
    ]}]"#;

    #[test]
    fn a_report_becomes_a_list_in_which_what_never_ran_is_no_success() {
        let specs = read(REPORT.as_bytes()).unwrap();
        let focused: Vec<String> = ["serves", "breaks", "needs a cloud", "lost"]
            .map(|name| format!("Services {name}"))
            .into();
        let exclusions = [Exclusion {
            name: "a cloud".to_owned(),
            reason: "there is none".to_owned(),
        }];
        let excluded = excluded(&focused, &exclusions);
        let list = List::of(&specs, &focused, &excluded);
        assert_eq!(list.failed(), 2);
        let text = list.to_string();
        assert!(
            text.contains("FAILED: Services breaks (no answer)\n"),
            "{text}"
        );
        assert!(
            text.contains("left out: Services needs a cloud (there is none)"),
            "{text}"
        );
        assert!(
            text.ends_with("1 passed, 2 failed or never ran, 0 skipped themselves, 1 left out\n")
        );
    }
}

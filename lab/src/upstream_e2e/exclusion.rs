//! Specs that no lab can run, with the reason, from `lab/upstream-e2e/exclusions.yaml`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Specs that are left out.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// A part of their full names.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Reads the file.
///
/// # Errors
/// When it is missing or does not read.
pub fn read(folder: &Path) -> Result<Vec<Exclusion>> {
    let file = folder.join("exclusions.yaml");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("failed to read {}", file.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} does not read", file.display()))
}

impl Exclusion {
    /// The part as a regular expression that matches it alone.
    pub fn pattern(&self) -> String {
        let mut pattern = String::new();
        for character in self.name.chars() {
            if r"\.+*?()|[]{}^$".contains(character) {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exclusion_of_the_checkout_has_a_reason() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("upstream-e2e");
        for exclusion in read(&folder).unwrap() {
            assert!(exclusion.reason.len() > 10, "{exclusion:?}");
            assert!(!exclusion.name.is_empty(), "{exclusion:?}");
        }
    }

    #[test]
    fn a_name_matches_itself_as_a_pattern() {
        let exclusion = Exclusion {
            name: "[Slow] a (b) c.d".to_owned(),
            reason: String::new(),
        };
        assert_eq!(exclusion.pattern(), r"\[Slow\] a \(b\) c\.d");
    }
}

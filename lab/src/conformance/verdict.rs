//! What is said of one case: it agrees, it differs (and how), or packets cannot tell.

use std::fmt::Display;

/// One judged case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Where it stands in its file: stage and name.
    pub name: String,
    /// What is said of it.
    pub verdict: Verdict,
}

/// What is said of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Agrees,
    /// Not as expected.
    Differs {
        /// What the file says.
        expected: String,
        /// What came out.
        got: String,
    },
    /// A row that was to be sent as packets, and why those cannot tell.
    Inexpressible(String),
}

impl Case {
    /// Agrees where both are equal.
    pub fn compared<T: PartialEq + Display>(
        name: impl Into<String>,
        expected: &T,
        got: &T,
    ) -> Self {
        let verdict = if expected == got {
            Verdict::Agrees
        } else {
            Verdict::Differs {
                expected: expected.to_string(),
                got: got.to_string(),
            }
        };
        Self {
            name: name.into(),
            verdict,
        }
    }

    /// Differs.
    pub fn differs(
        name: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            verdict: Verdict::Differs {
                expected: expected.into(),
                got: got.into(),
            },
        }
    }
}

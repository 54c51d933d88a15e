//! Labels, and selectors of labels, in the few bytes that policies need of them.
//!
//! Parsed once from a `LabelSelector`; equal selectors are equal values, whatever order they were
//! written in, so that policies share what they ask.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The labels of an object, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Box<str>, Box<str>)]>);

/// What labels an object must have. Without requirements it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Box<[Requirement]>);

/// One thing that a selector wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Requirement {
    /// The key is there with one of these values, which are sorted.
    In(Box<str>, Box<[Box<str>]>),
    /// The key is not there, or has none of these values, which are sorted.
    NotIn(Box<str>, Box<[Box<str>]>),
    /// The key is there.
    Exists(Box<str>),
    /// The key is not there.
    DoesNotExist(Box<str>),
}

/// Why a selector means nothing: its field, its value and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InvalidSelector {
    pub field: String,
    pub value: String,
    pub remedy: &'static str,
}

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl Labels {
    /// Labels as an object has them.
    #[must_use]
    pub fn new(labels: &BTreeMap<String, String>) -> Self {
        let boxed = |(key, value): (&String, &String)| (key.as_str().into(), value.as_str().into());
        Self(labels.iter().map(boxed).collect())
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| (**known).cmp(key));
        found.ok().and_then(|at| Some(&*self.0.get(at)?.1))
    }
}

impl Selector {
    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let among = |key: &str, values: &[Box<str>]| {
            let value = labels.get(key);
            value.is_some_and(|value| values.iter().any(|wanted| **wanted == *value))
        };
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => among(key, values),
            Requirement::NotIn(key, values) => !among(key, values),
            Requirement::Exists(key) => labels.get(key).is_some(),
            Requirement::DoesNotExist(key) => labels.get(key).is_none(),
        })
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// A selector as it was written.
    pub(super) fn parse(selector: &LabelSelector) -> Result<Self, InvalidSelector> {
        let labels = selector.match_labels.iter().flatten();
        let mut requirements: Vec<Requirement> = labels
            .map(|(key, value)| {
                Requirement::In(key.as_str().into(), [value.as_str().into()].into())
            })
            .collect();
        let expressions = selector.match_expressions.iter().flatten();
        for (at, expression) in expressions.enumerate() {
            let requirement =
                requirement(expression).map_err(|(field, value, remedy)| InvalidSelector {
                    field: format!("matchExpressions[{at}].{field}"),
                    value,
                    remedy,
                })?;
            requirements.push(requirement);
        }
        requirements.sort_unstable();
        requirements.dedup();
        Ok(Self(requirements.into()))
    }
}

/// As kubectl writes selectors; what everything matches is `everything`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return f.write_str("everything");
        }
        for (at, requirement) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            match requirement {
                Requirement::In(key, values) => match &**values {
                    [value] => write!(f, "{key}={value}")?,
                    values => write!(f, "{key} in ({})", values.join(","))?,
                },
                Requirement::NotIn(key, values) => write!(f, "{key} notin ({})", values.join(","))?,
                Requirement::Exists(key) => f.write_str(key)?,
                Requirement::DoesNotExist(key) => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

type Invalid = (&'static str, String, &'static str);

fn requirement(expression: &LabelSelectorRequirement) -> Result<Requirement, Invalid> {
    let LabelSelectorRequirement {
        key,
        operator,
        values,
    } = expression;
    let key = key.as_str().into();
    let mut sorted: Vec<Box<str>> = values.iter().flatten().map(|v| v.as_str().into()).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let wanted = matches!(operator.as_str(), "In" | "NotIn");
    if wanted && sorted.is_empty() {
        return Err(("values", String::new(), "name at least one value"));
    }
    match operator.as_str() {
        "In" => Ok(Requirement::In(key, sorted.into())),
        "NotIn" => Ok(Requirement::NotIn(key, sorted.into())),
        "Exists" => Ok(Requirement::Exists(key)),
        "DoesNotExist" => Ok(Requirement::DoesNotExist(key)),
        other => {
            let remedy = "write In, NotIn, Exists or DoesNotExist";
            Err(("operator", other.to_owned(), remedy))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter();
        Labels::new(
            &pairs
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.to_owned(),
                operator: operator.to_owned(),
                values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
            }]),
            match_labels: None,
        }
    }

    #[test]
    fn each_operator_asks_what_its_name_says() {
        let web = labels(&[("app", "web")]);
        let cases = [
            (expression("app", "In", &["db", "web"]), true),
            (expression("app", "In", &["db"]), false),
            (expression("track", "In", &["x"]), false),
            (expression("app", "NotIn", &["web"]), false),
            (expression("track", "NotIn", &["x"]), true),
            (expression("app", "Exists", &[]), true),
            (expression("track", "Exists", &[]), false),
            (expression("track", "DoesNotExist", &[]), true),
            (expression("app", "DoesNotExist", &[]), false),
        ];
        for (selector, expected) in cases {
            let parsed = Selector::parse(&selector).unwrap();
            assert_eq!(parsed.matches(&web), expected, "{selector:?}");
        }
    }

    #[test]
    fn a_selector_that_means_nothing_is_not_taken_for_everything() {
        for bad in [expression("a", "In", &[]), expression("a", "Like", &["b"])] {
            assert!(Selector::parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_selector_reads_as_kubectl_writes_it() {
        let cases = [
            (expression("a", "In", &["x"]), "a=x"),
            (expression("a", "In", &["y", "x"]), "a in (x,y)"),
            (expression("a", "NotIn", &["x"]), "a notin (x)"),
            (expression("a", "Exists", &[]), "a"),
            (expression("a", "DoesNotExist", &[]), "!a"),
            (LabelSelector::default(), "everything"),
        ];
        for (selector, text) in cases {
            assert_eq!(Selector::parse(&selector).unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_order_of_values_makes_no_difference() {
        let one = Selector::parse(&expression("a", "In", &["x", "y"])).unwrap();
        let other = Selector::parse(&expression("a", "In", &["y", "x"])).unwrap();
        assert_eq!(one, other);
    }
}

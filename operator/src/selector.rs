//! Label selectors: from a spec's field to something that matches nodes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

use crate::problem::{Code, Problem};

/// Reads a selector; an absent one selects everything.
///
/// # Errors
/// A problem that names the field.
pub fn parse(field: &str, selector: Option<&LabelSelector>) -> Result<Selector, Problem> {
    let Some(selector) = selector else {
        return Ok(Selector::default());
    };
    Selector::try_from(selector.clone()).map_err(|error| {
        Problem::new(
            "InvalidSelector",
            Code::INVALID_FIELD,
            format!("{field} cannot be read ({error}): use the operators In, NotIn, Exists and DoesNotExist"),
        )
    })
}

/// Whether a selector matches an object's labels.
#[must_use]
pub fn matches(selector: &Selector, labels: Option<&BTreeMap<String, String>>) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    selector.matches(labels.unwrap_or(&NONE))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_match_as_kubernetes_matches() {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let cases = [
            (json!({}), true),
            (json!({"matchLabels": {"zone": "a"}}), true),
            (json!({"matchLabels": {"zone": "b"}}), false),
            (
                json!({"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["ssd"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "disk", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchLabels": {"zone": "a"}, "matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}),
                false,
            ),
        ];
        for (selector, expected) in cases {
            let selector: LabelSelector = serde_json::from_value(selector).unwrap();
            let parsed = parse("spec.nodeSelector", Some(&selector)).unwrap();
            assert_eq!(matches(&parsed, Some(&labels)), expected, "{selector:?}");
        }
        assert!(matches(&parse("spec.nodeSelector", None).unwrap(), None));
    }
}

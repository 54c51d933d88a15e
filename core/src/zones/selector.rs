//! Label selectors, as the Kubernetes API defines them (`meta/v1` LabelSelector).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether labels match. An operator that Kubernetes does not have matches nothing.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    equal
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|expression| {
            let value = labels.get(&expression.key);
            let listed = value.is_some_and(|value| {
                expression
                    .values
                    .iter()
                    .flatten()
                    .any(|listed| listed == value)
            });
            match expression.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether every operator is one that Kubernetes has.
#[must_use]
pub fn operators_are_known(selector: &LabelSelector) -> bool {
    let known = ["In", "NotIn", "Exists", "DoesNotExist"];
    let mut expressions = selector.match_expressions.iter().flatten();
    expressions.all(|expression| known.contains(&expression.operator.as_str()))
}

//! `${…}` in texts of a scenario: addresses and names that are known only when pods run.

use std::collections::BTreeMap;

use serde_json::Value;

/// What `${…}` may name, such as `pod.client.ipv4`.
pub type Facts = BTreeMap<String, String>;

/// Replaces every `${…}`.
///
/// # Errors
/// A sentence that names what is unknown and what there is.
pub fn fill(text: &str, facts: &Facts) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after
            .split_once('}')
            .ok_or_else(|| format!("{text:?} has a ${{ without its }}"))?;
        let value = facts.get(name).ok_or_else(|| unknown(name, facts))?;
        out.push_str(before);
        out.push_str(value);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn unknown(name: &str, facts: &Facts) -> String {
    let head = name.split('.').next().unwrap_or_default();
    let near: Vec<&str> = facts
        .keys()
        .map(String::as_str)
        .filter(|key| key.starts_with(head))
        .collect();
    format!(
        "${{{name}}} is not known; of that kind there is: {}",
        near.join(", ")
    )
}

/// Replaces every `${…}` in all texts of a value.
///
/// # Errors
/// As [`fill`].
pub fn fill_value(value: &Value, facts: &Facts) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(fill(text, facts)?),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| fill_value(item, facts))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| Ok((fill(key, facts)?, fill_value(value, facts)?)))
                .collect::<Result<_, String>>()?,
        ),
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_names_are_replaced_everywhere_and_unknown_ones_are_named() {
        let facts = Facts::from([("pod.a.ipv4".to_owned(), "10.0.0.1".to_owned())]);
        assert_eq!(
            fill("to ${pod.a.ipv4}:80 ${pod.a.ipv4}", &facts).unwrap(),
            "to 10.0.0.1:80 10.0.0.1"
        );
        let value = fill_value(&json!({"x": ["${pod.a.ipv4}", 1]}), &facts).unwrap();
        assert_eq!(value, json!({"x": ["10.0.0.1", 1]}));
        let error = fill("${pod.b.ipv4}", &facts).unwrap_err();
        assert!(
            error.contains("pod.b.ipv4") && error.contains("pod.a.ipv4"),
            "{error}"
        );
        assert!(fill("${open", &facts).is_err());
    }
}

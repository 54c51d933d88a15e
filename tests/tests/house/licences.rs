//! Every package that is built in has a licence that `deny.toml` allows.

use std::collections::BTreeSet;

#[test]
fn every_package_has_an_allowed_licence() {
    let allowed = allowed();
    let metadata = super::metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(
        packages.len() > 100,
        "only {} packages: the list is broken",
        packages.len()
    );
    let refused: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or("none");
            (!permits(licence, &allowed)).then(|| format!("{}: {licence}", package["name"]))
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn a_copyleft_licence_is_found() {
    let allowed = allowed();
    assert!(!permits("GPL-3.0-only", &allowed));
    assert!(!permits("MIT AND GPL-2.0-only", &allowed));
    assert!(permits("GPL-3.0-only OR MIT", &allowed));
    assert!(permits("(Apache-2.0 OR MIT) AND Unicode-3.0", &allowed));
}

/// Evaluates an SPDX expression: `OR` needs one side, `AND` both. The old `/` means `OR`.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = strip_outer(expression.trim());
    for (word, all) in [(" OR ", false), (" AND ", true)] {
        let parts = split_outside(expression, word);
        if parts.len() > 1 {
            let mut verdicts = parts.iter().map(|part| permits(part, allowed));
            return if all {
                verdicts.all(|ok| ok)
            } else {
                verdicts.any(|ok| ok)
            };
        }
    }
    allowed.contains(expression)
}

fn strip_outer(expression: &str) -> &str {
    let inner = expression
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    match inner {
        Some(inner) if split_outside(expression, " ").len() == 1 => inner.trim(),
        _ => expression,
    }
}

fn split_outside<'a>(expression: &'a str, word: &str) -> Vec<&'a str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (index, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 && index >= start && expression[index..].starts_with(word) {
            parts.push(&expression[start..index]);
            start = index + word.len();
        }
    }
    parts.push(&expression[start..]);
    parts
}

fn allowed() -> BTreeSet<String> {
    let text = super::read(std::path::Path::new("deny.toml")).unwrap();
    let list = text
        .split("allow = [")
        .nth(1)
        .unwrap()
        .split(']')
        .next()
        .unwrap();
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

//! Turns an error and its sources into one line for the log.

/// `what failed: why: why that`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let inner = error.to_string();
        // Some libraries repeat their source's text in their own.
        if !text.ends_with(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn sources_follow_and_repetitions_do_not() {
        let inner = Layer("no such file", None);
        let error = Layer("failed to open a: no such file", Some(Box::new(inner)));
        assert_eq!(
            chain(&Layer("failed to start", Some(Box::new(error)))),
            "failed to start: failed to open a: no such file"
        );
    }
}

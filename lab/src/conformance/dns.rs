//! `suite: dns`: what the cluster DNS server answers, asked of its fast path and of its slow path, over UDP and TCP.

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use weft_dns::conformance::{Judged, Suite, judge as judge_suite};

use super::verdict::{Case, Verdict};

/// Judges a file.
///
/// # Errors
/// When it does not read as the suite's format.
pub fn judge(file: &Value) -> Result<Vec<Case>> {
    let suite: Suite =
        serde_json::from_value(file.clone()).context("it is not of the form of suite dns")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("failed to start a runtime")?;
    let judged = judge_suite(&suite, |served, case| case.ask_both(served, &runtime));
    Ok(judged
        .map_err(|fault| anyhow!(fault))?
        .into_iter()
        .map(case)
        .collect())
}

/// One line for a case: of several paths that disagree, the first stands for all.
fn case(judged: Judged) -> Case {
    let Judged {
        name,
        disagreements,
    } = judged;
    match disagreements.into_iter().next() {
        None => Case {
            name,
            verdict: Verdict::Agrees,
        },
        Some(first) => Case::differs(
            name,
            first.expected,
            format!("{} ({})", first.got, first.path),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn suite(address: &str) -> Value {
        json!({
            "suite": "dns", "name": "one", "about": "", "source": "",
            "objects": [
                {"kind": "Namespace", "metadata": {"name": "ns"}},
                {"kind": "Service", "metadata": {"name": "web", "namespace": "ns"}, "spec": {"clusterIP": "192.0.2.1"}},
            ],
            "cases": [{
                "name": "its address", "query": {"name": "web.ns.svc.cluster.local.", "type": "A"},
                "expect": {"rcode": "NOERROR", "answer": [format!("web.ns.svc.cluster.local. 5 IN A {address}")]},
            }],
        })
    }

    #[test]
    fn a_case_agrees_or_says_what_came_instead() {
        let right = judge(&suite("192.0.2.1")).expect("judged");
        assert_eq!(right[0].verdict, Verdict::Agrees);
        let wrong = judge(&suite("192.0.2.2")).expect("judged");
        let Verdict::Differs { expected, got } = &wrong[0].verdict else {
            panic!("it agrees");
        };
        assert!(
            expected.contains("192.0.2.2") && got.contains("192.0.2.1"),
            "{expected}, {got}"
        );
    }
}

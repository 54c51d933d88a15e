//! `suite: services`: stages of objects, and what becomes of flows, choices and health checks.
//!
//! A stage changes the compiled state as an agent would change it: objects are parsed, what they
//! touched is compiled, and the batches are applied to a model of the kernel's table. So the
//! incremental path is what is judged; that it ends where compiling anew ends is judged too.

pub mod expect;
pub mod format;
pub mod node;
pub mod packets;
pub mod trace;

use anyhow::{Context, Result};
use serde_json::Value;

use super::verdict::{Case, Verdict};
use expect::Outcome;
use format::{Choice, File, Flow, Health, Stage};
use node::Node;
use packets::{Packets, Told};

/// Judges a file.
///
/// # Errors
/// When it does not read as the suite's format.
pub fn judge(file: &Value, packets: bool) -> Result<Vec<Case>> {
    let file = File::deserialize(file)?;
    let mut node = Node::new(&file);
    let mut cases = Vec::new();
    let mut sent = match packets {
        true => {
            super::packets::check()?;
            Some(Packets::new(&file)?)
        }
        false => None,
    };
    for stage in &file.stages {
        let differences = node
            .apply(stage)
            .with_context(|| format!("stage {:?}", stage.name))?;
        let differences = differences.into_iter().map(|difference| {
            let name = format!("{}: the rules", stage.name);
            Case::differs(name, "the same as compiled anew", difference)
        });
        cases.extend(differences);
        let batches = node.take_batches();
        if let Some(sent) = &mut sent {
            sent.commit(batches)
                .with_context(|| format!("stage {:?}", stage.name))?;
        }
        cases.extend(of_stage(&node, stage, sent.as_ref())?);
    }
    Ok(cases)
}

fn of_stage(node: &Node, stage: &Stage, sent: Option<&Packets>) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let (anew, _) = node.anew();
    let (judge, judge_anew) = (
        trace::Judge::new(node, node.table()),
        trace::Judge::new(node, &anew),
    );
    for flow in &stage.flows {
        let got = judge.outcome(flow);
        let name = format!("{}: {}", stage.name, flow.name);
        let otherwise = judge_anew.outcome(flow);
        if got != otherwise {
            let wanted = format!("as compiled anew: {otherwise}");
            cases.push(Case::differs(name.clone(), wanted, got.to_string()));
        }
        let by_rules = Case::compared(
            name.clone(),
            &flow.expect.outcome(),
            &got.told_as(&flow.expect),
        );
        cases.extend(match sent {
            Some(sent) => by_packets(sent, node, flow, by_rules)?,
            None => vec![by_rules],
        });
    }
    cases.extend(
        stage
            .endpoints
            .iter()
            .flatten()
            .map(|row| choice(node, stage, row)),
    );
    if let Some(rows) = &stage.health {
        cases.extend(health(node, stage, rows));
    }
    Ok(cases)
}

/// The case that agrees by the rules must agree by packets too, as far as those can tell.
fn by_packets(sent: &Packets, node: &Node, flow: &Flow, by_rules: Case) -> Result<Vec<Case>> {
    let mut cases = vec![by_rules];
    let name = cases[0].name.clone();
    match sent.outcome(node, flow)? {
        Told::Nothing(why) => cases.push(Case {
            name,
            verdict: Verdict::Inexpressible(why),
        }),
        Told::Outcome(got) => {
            let expected = flow.expect.outcome();
            let hidden = packets::hides_masquerade(node, flow);
            let got = match (got, &expected) {
                (
                    Outcome::Endpoints {
                        endpoints,
                        affinity,
                        ..
                    },
                    Outcome::Endpoints { masqueraded, .. },
                ) if hidden => {
                    cases.push(Case {
                        name: name.clone(),
                        verdict: Verdict::Inexpressible(
                            "the node's own packet has the node's address with and without masquerading"
                                .to_owned(),
                        ),
                    });
                    Outcome::Endpoints {
                        endpoints,
                        masqueraded: masqueraded.clone(),
                        affinity,
                    }
                }
                (got, _) => got,
            };
            if got != expected {
                cases[0] = Case::differs(name, expected.to_string(), format!("{got} (as packets)"));
            }
        }
    }
    Ok(cases)
}

fn choice(node: &Node, stage: &Stage, row: &Choice) -> Case {
    let Choice {
        service,
        port,
        cluster,
        local,
    } = row;
    let name = format!("{}: endpoints of {service} port {port:?}", stage.name);
    let got = node.choice(service, port);
    let shown = |cluster: Option<&[String]>, local: Option<&[String]>| {
        let list = |what: &str, list: Option<&[String]>| {
            let mut list = list?.to_vec();
            list.sort();
            Some(format!("{what} [{}]", list.join(", ")))
        };
        let parts = [list("cluster", cluster), list("local", local)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let expected = shown(cluster.as_deref(), local.as_deref());
    // A list that the row leaves out is not compared.
    let got = shown(
        cluster.as_ref().map(|_| got.0.as_slice()),
        local.as_ref().map(|_| got.1.as_slice()),
    );
    Case::compared(name, &expected, &got)
}

/// A case for each expected port, and one more if others are served.
fn health(node: &Node, stage: &Stage, rows: &[Health]) -> Vec<Case> {
    let mut served = node.health();
    let mut cases: Vec<Case> = rows
        .iter()
        .map(|row| {
            let Health {
                service,
                port,
                ready,
            } = row;
            let got = served.remove(port).map_or_else(
                || "not served".to_owned(),
                |(service, ready)| format!("{service}, {ready} ready"),
            );
            let name = format!("{}: health check node port {port}", stage.name);
            Case::compared(name, &format!("{service}, {ready} ready"), &got)
        })
        .collect();
    if !served.is_empty() || rows.is_empty() {
        let others: Vec<String> = served.keys().map(u16::to_string).collect();
        cases.push(Case::compared(
            format!("{}: other health check node ports", stage.name),
            &String::new(),
            &others.join(", "),
        ));
    }
    cases
}

/// Whether every case agrees.
pub fn all_agree(cases: &[Case]) -> bool {
    cases.iter().all(|case| case.verdict == Verdict::Agrees)
}

impl Outcome {
    /// The outcome with what the expectation does not speak about left out.
    fn told_as(&self, expected: &format::Expect) -> Self {
        match (self, expected) {
            (
                Self::Endpoints {
                    endpoints,
                    masqueraded,
                    ..
                },
                format::Expect::Endpoints { affinity: None, .. },
            ) => Self::Endpoints {
                endpoints: endpoints.clone(),
                masqueraded: masqueraded.clone(),
                affinity: None,
            },
            (other, _) => other.clone(),
        }
    }
}

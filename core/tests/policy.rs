//! Policies: what the API says who may reach whom, against what is compiled.

mod node;
mod oracle;
mod suite;

use std::collections::{BTreeMap, BTreeSet};

use weft_core::policy::Policies;
use weft_nft::trace::Tracer;

use node::Node;
use suite::{Row, Step};

/// Rows of a step that a judge sees otherwise.
fn disagreements(step: &Step, mut judge: impl FnMut(&Row, u8) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in &step.rows {
        for family in step.world.families(row) {
            let allowed = judge(row, family);
            if allowed != row.allowed() {
                wrong.push(format!(
                    "{}: {row:?} over IPv{family}: got {allowed}",
                    step.name
                ));
            }
        }
    }
    wrong
}

#[test]
fn the_oracle_agrees_with_every_row() {
    let mut rows = 0;
    for file in suite::files() {
        for step in suite::steps(&file) {
            rows += step.rows.len();
            let wrong = disagreements(&step, |row, family| {
                oracle::allows(&step.world, row, family)
            });
            assert!(wrong.is_empty(), "{}: {}", file.display(), wrong.join("\n"));
        }
    }
    assert!(rows > 39_000, "only {rows} rows were found");
}

#[test]
fn the_oracle_would_see_a_wrong_row() {
    let file = suite::files().into_iter().next().unwrap();
    let step = suite::steps(&file).into_iter().next().unwrap();
    let wrong = disagreements(&step, |row, family| {
        !oracle::allows(&step.world, row, family)
    });
    assert!(wrong.len() >= step.rows.len());
}

/// Nodes of a world with pods of their own.
fn nodes(step: &Step) -> BTreeSet<String> {
    let pods = step.world.pods.iter().filter(|pod| !pod.host_network);
    pods.map(|pod| pod.node.clone()).collect()
}

#[test]
fn the_tables_of_all_nodes_agree_with_every_row() {
    for file in suite::files() {
        for step in suite::steps(&file) {
            let names = nodes(&step);
            let nodes: Vec<Node> = names
                .iter()
                .map(|name| Node::new(&step.world, name))
                .collect();
            let tracers: Vec<Tracer<'_>> =
                nodes.iter().map(|node| Tracer::new(&node.table)).collect();
            let wrong = disagreements(&step, |row, family| {
                let source = step.world.address(&row.from, family).unwrap();
                let destination = step.world.address(&row.to, family).unwrap();
                let question = (source, destination, row.proto.as_str(), row.port);
                let mut both = nodes.iter().zip(&tracers);
                both.all(|(node, tracer)| node.passes(tracer, &step.world, question))
            });
            assert!(wrong.is_empty(), "{}: {}", file.display(), wrong.join("\n"));
        }
    }
}

#[test]
fn what_connections_are_judged_by_agrees_with_every_row() {
    for file in suite::files() {
        for step in suite::steps(&file) {
            let mut all = BTreeMap::new();
            for name in nodes(&step) {
                let mut policies = Policies::new();
                node::tell(&mut policies, &step.world, &name);
                policies.compile();
                all.insert(name, policies);
            }
            let wrong = disagreements(&step, |row, family| {
                let source = step.world.address(&row.from, family).unwrap();
                let destination = step.world.address(&row.to, family).unwrap();
                let number = weft_core::policy::protocol_number(node::protocol(&row.proto));
                all.values()
                    .all(|node| node.allows(source, destination, number, row.port))
            });
            assert!(wrong.is_empty(), "{}: {}", file.display(), wrong.join("\n"));
        }
    }
}

//! Policies: what the API says who may reach whom, against what is compiled.

mod cost;
mod findings;
mod oracle;
mod random;
mod sequences;
mod suite;

use weft_core::policy::conformance::{Combined, Judge, Node, Row, Step};

/// Rows of a step that a judge sees otherwise.
fn disagreements(step: &Step, mut judge: impl FnMut(&Row, u8) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in &step.rows {
        for family in step.world.families(row) {
            let got = Combined::of(judge(row, family));
            if got != row.combined {
                wrong.push(format!(
                    "{}: {row:?} over IPv{family}: got {got}",
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

#[test]
fn the_chains_are_such_as_the_kernel_takes_them() {
    assert_eq!(Node::new("n1").table().faults(), []);
}

fn nodes(step: &Step) -> Vec<Node> {
    let names = step.world.judging_nodes().into_iter();
    let nodes = names.map(|name| Node::in_world(&name, &step.world).unwrap());
    nodes.collect()
}

#[test]
fn the_tables_of_all_nodes_agree_with_every_row() {
    for file in suite::files() {
        for step in suite::steps(&file) {
            let nodes = nodes(&step);
            let judges: Vec<Judge<'_>> = nodes.iter().map(Node::judge).collect();
            let wrong = disagreements(&step, |row, family| {
                let source = step.world.address(&row.from, family).unwrap();
                let destination = step.world.address(&row.to, family).unwrap();
                let (protocol, port) = (row.protocol(), row.port);
                let mut all = judges.iter();
                all.all(|judge| judge.passes(source, destination, protocol, port).unwrap())
            });
            assert!(wrong.is_empty(), "{}: {}", file.display(), wrong.join("\n"));
        }
    }
}

#[test]
fn what_connections_are_judged_by_agrees_with_every_row() {
    for file in suite::files() {
        for step in suite::steps(&file) {
            let nodes = nodes(&step);
            let wrong = disagreements(&step, |row, family| {
                let source = step.world.address(&row.from, family).unwrap();
                let destination = step.world.address(&row.to, family).unwrap();
                let number = weft_core::policy::protocol_number(row.protocol());
                let mut all = nodes.iter().map(Node::policies);
                all.all(|policies| policies.allows(source, destination, number, row.port))
            });
            assert!(wrong.is_empty(), "{}: {}", file.display(), wrong.join("\n"));
        }
    }
}

//! What is kept when a scenario fails: the state of nodes and of the API at that moment.

use std::time::Duration;

use serde::Serialize;

use super::lab::{Spot, output};
use super::stage::Stage;
use super::{pods, spot};

/// Output of one command.
#[derive(Serialize, Clone, Debug)]
pub struct Collected {
    /// Where it ran.
    pub place: String,
    /// What ran.
    pub command: String,
    /// What it printed.
    pub output: String,
}

/// Commands that are run in each node.
const ON_NODES: [&[&str]; 5] = [
    &["ip", "-4", "route"],
    &["ip", "-6", "route"],
    &["ip", "-details", "link"],
    &["ip", "neighbour"],
    &["nft", "list", "table", "inet", "weftnet"],
];

/// Collects what always helps, and what the scenario asks for.
pub async fn after_failure(stage: &Stage<'_>) -> Vec<Collected> {
    let mut all = Vec::new();
    for node in &stage.lab.nodes {
        for command in ON_NODES {
            let argv: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            all.push(one(&node.record.name, &Spot::Place(&node.place), &argv).await);
        }
    }
    for wanted in &stage.scenario.on_failure {
        let filled: Result<Vec<String>, _> =
            wanted.command.iter().map(|word| stage.fill(word)).collect();
        match (spot::spot(stage.lab, &stage.pods, &wanted.place), filled) {
            (Ok(place), Ok(argv)) => all.push(one(&wanted.place, &place, &argv).await),
            (Err(error), _) | (_, Err(error)) => all.push(Collected {
                place: wanted.place.clone(),
                command: wanted.command.join(" "),
                output: format!("{error:#}"),
            }),
        }
    }
    let output = pods::last_event(stage.lab, &stage.namespace).await;
    all.push(Collected {
        place: "API".to_owned(),
        command: "events".to_owned(),
        output,
    });
    all
}

async fn one(place: &str, spot: &Spot<'_>, argv: &[String]) -> Collected {
    let output = match output(spot, argv, Duration::from_secs(10)).await {
        Ok(output) => {
            let all = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&all).into_owned()
        }
        Err(error) => format!("{error:#}"),
    };
    Collected {
        place: place.to_owned(),
        command: argv.join(" "),
        output,
    }
}

//! One scenario from its namespace to its verdict.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use super::endpoints::Endpoints;
use super::lab::Lab;
use super::model::{Control, Scenario};
use super::number::Random;
use super::outcome::{Outcome, Verdict};
use super::read::Loaded;
use super::stage::{Stage, Tally};
use super::step::flow::Running;
use super::{collect, objects, pods, step, wait};
use crate::scenario::model::{Empty, Step};

/// How long a namespace may take to go: one of 5,000 Services takes minutes on a busy machine.
const GONE: Duration = Duration::from_secs(600);

/// Runs a scenario on a lab that fits it, and cleans up.
pub async fn run(lab: &Lab, loaded: &Loaded, is_full: bool, seed: u64) -> Outcome {
    let start = Instant::now();
    let mut stage = Stage {
        lab,
        scenario: &loaded.scenario,
        namespace: format!("lab-{}", loaded.stem()),
        pods: BTreeMap::new(),
        kept: BTreeMap::new(),
        talks: BTreeMap::new(),
        applied: Vec::new(),
        random: Random::new(seed),
        is_full,
        began: jiff::Timestamp::now(),
        tally: Tally::default(),
    };
    let mut result = whole(&mut stage).await;
    let mut collected = Vec::new();
    if result.is_err() {
        collected = collect::after_failure(&stage).await;
    }
    let ended = step::all(&mut stage, &loaded.scenario.finally)
        .await
        .context("finally");
    let cleaned = clean(&stage).await.context("clean-up");
    result = result.and(ended).and(cleaned);
    let verdict = match result {
        Ok(()) => Verdict::Passed,
        Err(error) => Verdict::Failed(format!("{error:#}")),
    };
    Outcome {
        name: loaded.scenario.name.clone(),
        file: loaded.file.display().to_string(),
        lab: lab.cluster().name().to_string(),
        verdict,
        seconds: start.elapsed().as_secs_f64(),
        tally: stage.tally,
        collected,
    }
}

async fn whole(stage: &mut Stage<'_>) -> Result<()> {
    let scenario = stage.scenario;
    make_namespace(stage).await?;
    step::apply(stage, &scenario.objects)
        .await
        .context("objects")?;
    start_pods(stage).await.context("pods")?;
    let ready = ready_since(stage).await?;
    let flows = step::flow::start(stage, &scenario.always.flows, None, 0)
        .await
        .context("always.flows")?;
    let dials = step::dial::start(stage, &scenario.always.dials, None)
        .await
        .context("always.dials")?;
    let questions = step::questions::start(stage, &scenario.always.questions, None)
        .await
        .context("always.questions")?;
    let endpoints =
        Endpoints::watch(stage.lab, &stage.namespace, &scenario.always.endpoints).await?;
    let mut result = step::all(stage, &scenario.steps).await;
    result = with(result, endpoints.judge());
    result = with(result, always(stage, &ready).await);
    result = with(result, stop(stage, flows).await);
    for dialling in dials {
        let judged = step::dial::finish(stage, dialling).await;
        result = with(result, judged.context("always.dials"));
    }
    for asking in questions {
        let judged = step::questions::finish(stage, asking).await;
        result = with(result, judged.context("always.questions"));
    }
    result?;
    for control in &scenario.controls {
        run_control(stage, control)
            .await
            .with_context(|| format!("control {:?}", control.name))?;
    }
    Ok(())
}

/// Both failures, where there are two: what the steps saw may explain what the flows saw.
fn with(first: Result<()>, second: Result<()>) -> Result<()> {
    match (first, second) {
        (Err(first), Err(second)) => Err(anyhow!("{first:#}; and {second:#}")),
        (first, second) => first.and(second),
    }
}

async fn make_namespace(stage: &Stage<'_>) -> Result<()> {
    let api: Api<Namespace> = Api::all(stage.lab.client.clone());
    let namespace: Namespace = serde_json::from_value(json!({
        "metadata": {"name": stage.namespace, "labels": {"weftnet.dev/lab": "scenario"}}
    }))?;
    // One of an earlier, broken run may still be going.
    wait::until(GONE, async || match api.get_opt(&stage.namespace).await? {
        None => Ok(()),
        Some(old) => {
            if old.metadata.deletion_timestamp.is_none() {
                api.delete(&stage.namespace, &DeleteParams::default())
                    .await?;
            }
            bail!(
                "namespace {} of an earlier run is still there",
                stage.namespace
            )
        }
    })
    .await?;
    api.create(&PostParams::default(), &namespace)
        .await
        .context("failed to create the namespace")?;
    Ok(())
}

async fn start_pods(stage: &mut Stage<'_>) -> Result<()> {
    let first: Vec<_> = stage
        .scenario
        .pods
        .iter()
        .filter(|(_, spec)| !spec.later)
        .collect();
    for (name, spec) in &first {
        pods::create(stage.lab, &stage.namespace, name, spec).await?;
    }
    let names: Vec<String> = first
        .iter()
        .filter(|(_, spec)| !spec.unready)
        .map(|(name, _)| (*name).clone())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    for facts in pods::ready(stage.lab, &stage.namespace, &names, step::READY).await? {
        stage.pods.insert(facts.name.clone(), facts);
    }
    Ok(())
}

/// When each node that must stay Ready became it.
async fn ready_since(stage: &Stage<'_>) -> Result<BTreeMap<String, String>> {
    let api: Api<Node> = Api::all(stage.lab.client.clone());
    let mut since = BTreeMap::new();
    for number in &stage.scenario.always.ready_nodes {
        for node in stage.nodes(*number)? {
            let found = api
                .get(&node.record.name)
                .await
                .context("failed to get a Node")?;
            let conditions = found
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            let ready = conditions.into_iter().find(|c| c.type_ == "Ready");
            let time = ready
                .filter(|c| c.status == "True")
                .and_then(|c| c.last_transition_time);
            let time = time.with_context(|| format!("{} is not Ready", node.record.name))?;
            since.insert(node.record.name.clone(), time.0.to_string());
        }
    }
    Ok(since)
}

async fn always(stage: &mut Stage<'_>, before: &BTreeMap<String, String>) -> Result<()> {
    let after = ready_since(stage).await.context("always.readyNodes")?;
    let lost: Vec<&String> = before
        .iter()
        .filter(|(node, time)| after.get(*node) != Some(time))
        .map(|(node, _)| node)
        .collect();
    if !lost.is_empty() {
        bail!("always.readyNodes: {lost:?} stopped being Ready in between");
    }
    if stage.scenario.always.unique_addresses {
        step::one(stage, &Step::UniqueAddresses(Empty {}))
            .await
            .context("always.uniqueAddresses")?;
    }
    Ok(())
}

async fn stop(stage: &mut Stage<'_>, flows: Vec<Running>) -> Result<()> {
    let mut sentences = Vec::new();
    for flow in flows {
        match flow.finish(None).await {
            Ok((what, counts, own)) => {
                stage.tally = stage.tally.with(&what, &counts);
                sentences.extend(
                    step::flow::judge(&what, &counts, &own)
                        .err()
                        .map(|error| error.to_string()),
                );
            }
            Err(error) => sentences.push(format!("{error:#}")),
        }
    }
    step::none_of(&sentences).context("always.flows")
}

async fn run_control(stage: &mut Stage<'_>, control: &Control) -> Result<()> {
    // What a control loses on purpose is not the network's.
    let tally = stage.tally;
    step::all(stage, &control.inject).await.context("inject")?;
    let detected = step::all(stage, &control.detect).await;
    let healed = step::all(stage, &control.heal).await.context("heal");
    stage.tally = Tally {
        steps: stage.tally.steps,
        ..tally
    };
    match detected {
        Ok(()) => bail!(
            "the detector was silent; it had to notice {:?}",
            control.notices
        ),
        Err(error) => {
            let words = format!("{error:#}");
            if !words.contains(&control.notices) {
                bail!(
                    "{:?} had to be noticed, but the failure was: {words}",
                    control.notices
                );
            }
        }
    }
    healed
}

/// Deletes what the scenario made. Pods go in the background unless something else waits for them.
async fn clean(stage: &Stage<'_>) -> Result<()> {
    let api: Api<Namespace> = Api::all(stage.lab.client.clone());
    match api.delete(&stage.namespace, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error).context("failed to delete the namespace"),
    }
    if stage.applied.is_empty() {
        return Ok(());
    }
    wait::until(GONE, async || match api.get_opt(&stage.namespace).await? {
        None => Ok(()),
        Some(_) => bail!("namespace {} is still there", stage.namespace),
    })
    .await?;
    for reference in stage.applied.iter().rev() {
        objects::delete(stage.lab, &stage.namespace, reference, true).await?;
    }
    Ok(())
}

/// Whether anything about a scenario's set keeps it from this run.
pub fn not_in_set(scenario: &Scenario, is_full: bool) -> Option<String> {
    let full_only = scenario.profile == super::model::Profile::Full && !is_full;
    full_only.then(|| "only in the long set (--full)".to_owned())
}

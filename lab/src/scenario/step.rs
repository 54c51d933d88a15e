//! One step of a scenario: done, or failed with a sentence.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::model::{Create, Repeat, Step, Target};
use super::number::duration;
use super::stage::Stage;
use super::{objects, pods, template};

mod churn;
mod connect;
pub mod dial;
mod exec;
mod expect;
mod fault;
mod first_instant;
pub mod flow;
pub mod questions;
mod reach;
mod spoof;
pub mod talk;
mod unique;

/// How long pods may take to become Ready.
/// After an API server that was away for a minute, kubelets and the scheduler come back only after their own pauses.
pub const READY: Duration = Duration::from_secs(180);

/// Does steps in their order; the first that fails ends it.
///
/// # Errors
/// The failed step's sentence, with its number.
pub async fn all(stage: &mut Stage<'_>, steps: &[Step]) -> Result<()> {
    for (index, step) in steps.iter().enumerate() {
        one(stage, step)
            .await
            .with_context(|| format!("step {} ({})", index + 1, title(step)))?;
    }
    Ok(())
}

/// Does one step.
///
/// # Errors
/// A sentence about what is not as expected.
pub async fn one(stage: &mut Stage<'_>, step: &Step) -> Result<()> {
    stage.tally.steps += 1;
    match step {
        Step::Apply(list) => apply(stage, list).await,
        Step::Patch(what) => {
            let patch = filled(stage, &what.patch)?;
            let mut object = what.object.clone();
            object.name = stage.fill(&object.name)?;
            objects::patch(stage.lab, &stage.namespace, &object, &patch).await
        }
        Step::Refused(refused) => {
            let object = filled(stage, &refused.object)?;
            objects::refused(stage.lab, &stage.namespace, &object, &refused.message).await
        }
        Step::Delete(target) => delete(stage, target).await,
        Step::Create(what) => create(stage, what).await,
        Step::Expect(what) => expect::object(stage, what).await,
        Step::Event(what) => expect::event(stage, what).await,
        Step::Connect(what) => connect::run(stage, what).await,
        Step::Dial(what) => dial::step(stage, what).await,
        Step::Questions(what) => questions::step(stage, what).await,
        Step::Reach(what) => reach::run(stage, what).await,
        Step::Talk(what) => talk::begin(stage, what).await,
        Step::Hears(what) => talk::hears(stage, what).await,
        Step::FirstInstant(what) => first_instant::run(stage, what).await,
        Step::Exec(what) => exec::run(stage, what).await,
        Step::Processes(what) => fault::processes(stage, what).await,
        Step::Probe(what) => flow::step(stage, what).await,
        Step::Spoof(what) => spoof::run(stage, what).await,
        Step::UniqueAddresses(_) => unique::check(stage).await,
        Step::Fault(what) => fault::run(stage, what).await,
        Step::Churn(what) => churn::run(stage, what).await,
        Step::Wait(pause) => {
            let share = stage.random.share();
            tokio::time::sleep(
                pause
                    .get(stage.is_full, share)
                    .map_err(|error| anyhow!(error))?,
            )
            .await;
            Ok(())
        }
        Step::Repeat(what) => Box::pin(repeat(stage, what)).await,
    }
}

/// What a step is about, for messages.
pub fn title(step: &Step) -> String {
    match step {
        Step::Apply(list) => format!("apply {} objects", list.len()),
        Step::Patch(what) => format!("patch {} {}", what.object.kind, what.object.name),
        Step::Refused(_) => "refused".to_owned(),
        Step::Delete(target) => {
            let object = target
                .object
                .as_ref()
                .map(|object| format!("{} {}", object.kind, object.name));
            format!(
                "delete {}",
                target.pod.clone().or(object).unwrap_or_default()
            )
        }
        Step::Create(what) => format!("create {}", what.pod),
        Step::Expect(what) => format!("expect {} {}", what.object.kind, what.object.name),
        Step::Event(what) => format!("event {}", what.reason.as_deref().unwrap_or(&what.message)),
        Step::Connect(what) => format!("connect {} to {}", what.from, what.to),
        Step::Dial(what) => format!("dial {} from {}", what.to, what.from),
        Step::Questions(what) => format!("questions for {} from {}", what.name, what.from),
        Step::Reach(what) => format!("reach {}", what.allowed.join(", ")),
        Step::Talk(what) => format!("talk {}", what.name),
        Step::Hears(what) => format!("hears {}", what.talks.join(", ")),
        Step::FirstInstant(what) => format!("firstInstant of {}", what.pod),
        Step::Exec(what) => format!("exec {} in {}", what.command.join(" "), what.place),
        Step::Processes(what) => format!("processes {}", what.process),
        Step::Probe(what) => format!("probe {} to {}", what.from, what.to),
        Step::Spoof(what) => format!("spoof {} from {}", what.kind, what.from),
        Step::UniqueAddresses(_) => "uniqueAddresses".to_owned(),
        Step::Fault(what) => format!("fault {}", fault::title(what)),
        Step::Churn(what) => format!("churn on node {}", what.node),
        Step::Wait(_) => "wait".to_owned(),
        Step::Repeat(_) => "repeat".to_owned(),
    }
}

/// Applies objects, and remembers those that the namespace's end does not take along.
///
/// # Errors
/// What the API server says.
pub async fn apply(stage: &mut Stage<'_>, list: &[serde_json::Value]) -> Result<()> {
    for object in list {
        let object = filled(stage, object)?;
        let reference = objects::apply(stage.lab, &stage.namespace, &object).await?;
        stage.applied.push(reference);
    }
    Ok(())
}

fn filled(stage: &Stage<'_>, object: &serde_json::Value) -> Result<serde_json::Value> {
    template::fill_value(object, &stage.facts()).map_err(|error| anyhow!(error))
}

async fn delete(stage: &mut Stage<'_>, target: &Target) -> Result<()> {
    if let Some(name) = &target.pod {
        let names: Vec<String> = group(stage, name);
        pods::delete(stage.lab, &stage.namespace, &names).await?;
        stage.pods.retain(|name, _| !names.contains(name));
    }
    if let Some(object) = &target.object {
        let mut object = object.clone();
        object.name = stage.fill(&object.name)?;
        objects::delete(stage.lab, &stage.namespace, &object, true).await?;
    }
    Ok(())
}

/// The pod, or the numbered ones that `create` with a count made of it.
fn group(stage: &Stage<'_>, name: &str) -> Vec<String> {
    let prefix = format!("{name}-");
    let numbered = |pod: &&String| {
        pod.strip_prefix(&prefix)
            .is_some_and(|rest| rest.parse::<u64>().is_ok())
    };
    let found: Vec<String> = stage.pods.keys().filter(numbered).cloned().collect();
    if found.is_empty() {
        vec![name.to_owned()]
    } else {
        found
    }
}

async fn create(stage: &mut Stage<'_>, what: &Create) -> Result<()> {
    let Create { pod, count } = what;
    let spec = stage.scenario.pods.get(pod);
    let spec = spec.with_context(|| format!("the scenario has no pod {pod}"))?;
    let names = match count {
        None => vec![pod.clone()],
        Some(count) => (1..=count.get(stage.is_full))
            .map(|number| format!("{pod}-{number}"))
            .collect(),
    };
    for name in &names {
        pods::create(stage.lab, &stage.namespace, name, spec).await?;
    }
    if spec.unready {
        return Ok(());
    }
    for facts in pods::ready(stage.lab, &stage.namespace, &names, READY).await? {
        stage.pods.insert(facts.name.clone(), facts);
    }
    Ok(())
}

async fn repeat(stage: &mut Stage<'_>, what: &Repeat) -> Result<()> {
    for round in 1..=what.times.get(stage.is_full) {
        all(stage, &what.steps)
            .await
            .with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

/// Reads a duration of a scenario file.
pub(super) fn time(text: &str) -> Result<Duration> {
    duration(text).map_err(|error| anyhow!(error))
}

/// Fails with every sentence, if there is one.
pub(super) fn none_of(sentences: &[String]) -> Result<()> {
    if sentences.is_empty() {
        return Ok(());
    }
    bail!("{}", sentences.join("; "))
}

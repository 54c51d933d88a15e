//! `expect` and `event`: objects of the API and what the cluster says about them.

use anyhow::{Context, Result, anyhow, bail};
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use super::time;
use crate::scenario::model::{EventSpec, Expect};
use crate::scenario::objects::{self, difference};
use crate::scenario::stage::Stage;
use crate::scenario::template;
use crate::scenario::wait::{self, Deadline};

/// Waits until an object is as wanted, and `steadily` so: a moment in which it is not begins the
/// count anew, as a controller's status is of the generation before until the controller looks.
pub(super) async fn object(stage: &mut Stage<'_>, what: &Expect) -> Result<()> {
    let steadily = match &what.steadily {
        None => std::time::Duration::ZERO,
        Some(steadily) => time(steadily)?,
    };
    wait::until(time(&what.within)?, async || {
        let deadline = Deadline::after(steadily);
        once(stage, what).await?;
        while !deadline.is_over() {
            deadline.pause().await;
            once(stage, what)
                .await
                .with_context(|| format!("it did not stay so for {steadily:?}"))?;
        }
        Ok(())
    })
    .await
}

async fn once(stage: &Stage<'_>, what: &Expect) -> Result<()> {
    let mut reference = what.object.clone();
    reference.name = stage.fill(&reference.name)?;
    let found = objects::get(stage.lab, &stage.namespace, &reference).await?;
    match (found, what.absent) {
        (None, true) => Ok(()),
        (Some(_), true) => bail!("it is there"),
        (None, false) => bail!("it is not there"),
        (Some(found), false) => {
            let wanted = template::fill_value(&what.matches, &stage.facts())
                .map_err(|error| anyhow!(error))?;
            difference(&wanted, &found, "").map_or(Ok(()), |difference| Err(anyhow!(difference)))
        }
    }
}

pub(super) async fn event(stage: &mut Stage<'_>, what: &EventSpec) -> Result<()> {
    wait::until(time(&what.within)?, async || event_once(stage, what).await).await
}

async fn event_once(stage: &Stage<'_>, what: &EventSpec) -> Result<()> {
    let kind = GroupVersionKind::gvk("events.k8s.io", "v1", "Event");
    let api: Api<DynamicObject> =
        Api::all_with(stage.lab.client.clone(), &ApiResource::from_gvk(&kind));
    let list = api
        .list(&ListParams::default())
        .await
        .context("failed to list Events")?;
    let about = what
        .about
        .as_deref()
        .map(|about| stage.fill(about))
        .transpose()?;
    let message = stage.fill(&what.message)?;
    let mut recent = Vec::new();
    for event in &list.items {
        let text = |pointer: &str| {
            event
                .data
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        if !is_recent(stage, event) {
            continue;
        }
        let own = format!("{}/{}", text("/regarding/kind"), text("/regarding/name"));
        let fits = what
            .reason
            .as_deref()
            .is_none_or(|reason| reason == text("/reason"))
            && about.as_deref().is_none_or(|about| about == own)
            && text("/note").contains(&message);
        if fits {
            return Ok(());
        }
        recent.push(format!("{own} {} {}", text("/reason"), text("/note")));
    }
    let weftnet: Vec<String> = recent
        .into_iter()
        .filter(|line| !line.starts_with("Pod/"))
        .take(10)
        .collect();
    bail!(
        "no such Event; recent ones that are not about pods: {}",
        weftnet.join(" | ")
    )
}

/// Written, or counted up, since the scenario began. A second is the API's precision.
fn is_recent(stage: &Stage<'_>, event: &DynamicObject) -> bool {
    let times = [
        "/eventTime",
        "/series/lastObservedTime",
        "/deprecatedLastTimestamp",
        "/metadata/creationTimestamp",
    ];
    let latest = times.iter().filter_map(|pointer| {
        let text = event.data.pointer(pointer).and_then(Value::as_str)?;
        text.parse::<jiff::Timestamp>().ok()
    });
    let created = event
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0);
    latest
        .chain(created)
        .max()
        .is_some_and(|time| time.as_second() >= stage.began.as_second())
}

//! From Overlay objects to accepted overlays: readable fields, and no two VXLANs alike.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Selector;
use weft_crds::{Overlay, OverlayMode, UnderlayFamily, reason};

use crate::precedence;
use crate::problem::{Code, Problem};
use crate::selector;
use crate::snapshot::Snapshot;

/// An overlay whose fields could be read.
#[derive(Clone, Debug)]
pub struct ValidOverlay {
    /// How packets travel.
    pub mode: OverlayMode,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of VXLAN.
    pub port: u16,
    /// Fixed MTU of pods' packets.
    pub mtu: Option<u32>,
    /// What the user asked for.
    pub family: UnderlayFamily,
    /// Networks that a node's own address must be in.
    pub underlay_cidrs: Vec<IpNet>,
    /// The nodes that take part.
    pub nodes: Selector,
    /// Nobody may use it: the reason. Such an overlay is kept for those that use it already.
    pub rejected: Option<Problem>,
}

/// What became of each Overlay.
#[derive(Clone, Debug, Default)]
pub struct Overlays {
    /// Those whose fields could be read, by name.
    pub valid: BTreeMap<String, ValidOverlay>,
    /// Those whose fields could not, by name.
    pub unreadable: BTreeMap<String, Problem>,
}

impl Overlays {
    /// Why an overlay that exists is not accepted.
    #[must_use]
    pub fn rejection(&self, name: &str) -> Option<&Problem> {
        self.unreadable
            .get(name)
            .or_else(|| self.valid.get(name)?.rejected.as_ref())
    }
}

/// Reads and judges every Overlay. Of two in conflict, the one that was accepted as it stands wins,
/// then the older one, then the first by name.
#[must_use]
pub fn validate(snapshot: &Snapshot) -> Overlays {
    let mut overlays = Overlays::default();
    let mut order: Vec<&Overlay> = snapshot.overlays.values().map(AsRef::as_ref).collect();
    order.sort_by_key(|overlay| {
        precedence::key(
            *overlay,
            overlay
                .status
                .as_ref()
                .map(|status| status.conditions.as_slice()),
        )
    });
    for overlay in order {
        let name = overlay.metadata.name.clone().unwrap_or_default();
        match parse(overlay) {
            Ok(mut valid) => {
                valid.rejected = conflict(&name, &valid, &overlays);
                overlays.valid.insert(name, valid);
            }
            Err(problem) => {
                overlays.unreadable.insert(name, problem);
            }
        }
    }
    overlays
}

fn parse(overlay: &Overlay) -> Result<ValidOverlay, Problem> {
    let spec = &overlay.spec;
    let mut underlay_cidrs = Vec::new();
    for (index, text) in spec.underlay.cidrs.iter().enumerate() {
        let field = format!("spec.underlay.cidrs[{index}]");
        underlay_cidrs.push(crate::cidr::parse(&field, text)?);
    }
    Ok(ValidOverlay {
        mode: spec.mode,
        vni: spec.vxlan.vni,
        port: spec.vxlan.port,
        mtu: mtu(&spec.mtu)?,
        family: spec.underlay.family,
        underlay_cidrs,
        nodes: selector::parse("spec.nodeSelector", spec.node_selector.as_ref())?,
        rejected: None,
    })
}

fn mtu(value: &IntOrString) -> Result<Option<u32>, Problem> {
    let number = match value {
        IntOrString::String(text) if text == "Auto" => return Ok(None),
        IntOrString::String(text) => text.parse().ok(),
        IntOrString::Int(number) => u32::try_from(*number).ok(),
    };
    match number.filter(|number| (1280..=65535).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(Problem::new(
            "InvalidMTU",
            Code::INVALID_FIELD,
            format!("spec.mtu is {value:?}: write Auto or a number of bytes from 1280 to 65535"),
        )),
    }
}

fn conflict(name: &str, overlay: &ValidOverlay, accepted: &Overlays) -> Option<Problem> {
    if overlay.mode == OverlayMode::Direct {
        return None;
    }
    let (other, _) = accepted.valid.iter().find(|(_, other)| {
        other.rejected.is_none()
            && other.mode != OverlayMode::Direct
            && (other.vni, other.port) == (overlay.vni, overlay.port)
    })?;
    Some(Problem::new(
        reason::VNI_CONFLICT,
        Code::VNI_CONFLICT,
        format!(
            "spec.vxlan: VNI {} on port {} belongs to Overlay {other}: make Overlay {name} again with another spec.vxlan.vni",
            overlay.vni, overlay.port
        ),
    ))
}

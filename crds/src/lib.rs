//! The resource types of `weftnet.dev/v1alpha1`: what users write and what the system writes.
//!
//! Each kind is one file: its Rust type, its defaults, its CEL rules and its printer columns. The
//! program `weft-crds` prints the CustomResourceDefinitions as YAML. No client and no runtime live
//! here, so that every other crate may depend on it.

mod condition;
mod definitions;
mod dns_zone;
mod dns_zone_body;
mod ip_block;
mod ip_pool;
mod node_network;
mod node_report;
mod overlay;
mod pod_address;

pub use condition::{ConditionStatus, ConditionType, reason};
pub use definitions::definitions;
pub use dns_zone::{DnsZone, DnsZoneSpec, DnsZoneStatus, OnMiss, ZoneAudience, ZoneType, ZoneView};
pub use dns_zone_body::{
    AuthoritativeBody, BlockAnswer, ConfigMapRef, DelegationServer, ForwardBody, ForwardCache,
    ForwardPolicy, ForwardUpstream, PolicyAction, PolicyBody, PolicyRule, ServiceRef,
    UpstreamProtocol, ZoneDelegation, ZoneRecord, ZoneSource,
};
pub use ip_block::{BlockState, IPBlock, IPBlockSpec};
pub use ip_pool::{
    FamilyUsage, IPPool, IPPoolSpec, IPPoolStatus, NatMode, NatOutgoing, OverlayRef, PoolCidr,
    PoolSummary, PoolUse,
};
pub use node_network::{
    NodeNetwork, NodeNetworkSpec, NodeNetworkStatus, NodeOverlay, NodePool, NodePoolCidr,
    NodeUnderlay,
};
pub use node_report::{BlockUsage, DeviceMtu, NodeReport, NodeReportSpec, PoolUsage};
pub use overlay::{
    Overlay, OverlayMode, OverlayNodes, OverlaySpec, OverlayStatus, Underlay, UnderlayFamily, Vxlan,
};
pub use pod_address::{PodAddress, PodAddressSpec, PodPort};

/// The API group of every kind in this crate.
pub const GROUP: &str = "weftnet.dev";
/// The one API version served.
pub const VERSION: &str = "v1alpha1";

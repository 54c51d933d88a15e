//! Services: conformance rows by choice and by tracer, golden files, and properties of updates.

mod cluster;
mod conformance;
mod golden;
mod oracle;
mod properties;
mod stale;

use weft_core::compile;
use weft_core::services::Services;
use weft_core::view::NodeView;
use weft_nft::Table;

/// The whole table of a node that does nothing but serve Services.
pub fn table(services: &Services) -> Table {
    let view = NodeView {
        node: services.config().node.clone(),
        services: Some(services.frame()),
        ..NodeView::default()
    };
    let (plan, _) = compile::all(&view);
    let mut table = plan.table;
    services.fill(&mut table);
    table
}

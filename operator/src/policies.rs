//! Policies that are wrong: an Event on the object, for a ClusterNetworkPolicy also a condition. Agents
//! enforce them; what they understand is told here once for all nodes.

pub mod object;
pub mod status;

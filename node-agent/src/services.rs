//! What stands around the rules of Services: the health that load balancers and the cluster
//! autoscaler ask for, and the metrics, both as kube-proxy has them.

pub mod checks;
pub mod health;
pub mod metrics;

//! Load balancer addresses: which Services are ours, what each is to hold, and what its status says.

pub mod status;
pub mod view;

/// The value of `loadBalancerClass` that asks for Weftnet.
pub const CLASS: &str = "weftnet.dev/load-balancer";
/// Annotation of a Service: addresses that it asks for, comma-separated.
pub const ADDRESSES: &str = "weftnet.dev/addresses";
/// Annotation of a Service: Services of one namespace with the same key and externalTrafficPolicy
/// may share an address on different ports.
pub const SHARING_KEY: &str = "weftnet.dev/sharing-key";

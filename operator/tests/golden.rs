//! Golden files: ordinary Kubernetes objects in, everything that would be written out.

#[test]
fn placeholder_is_replaced() {}

//! Which endpoints a new connection may reach, by readiness, traffic policy and topology.

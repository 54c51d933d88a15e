//! Services: the conformance rows that need no packets, and properties of updates.

mod conformance;

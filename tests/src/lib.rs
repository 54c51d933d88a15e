//! Nothing: this package exists for its tests, which cross crates.

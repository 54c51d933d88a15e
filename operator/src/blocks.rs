//! Blocks: from the snapshot to the view that `weft_core::alloc` plans from.

pub mod view;

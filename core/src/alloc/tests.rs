//! Tables and properties of block allocation.

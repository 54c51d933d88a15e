//! DnsZones: which are accepted, and what users read in their status. Servers compile them on their own.

pub mod memo;
pub mod status;
pub mod validate;

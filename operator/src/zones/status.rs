//! The status of a DnsZone: the serial number of the version that is served, and conditions.
//!
//! A serial number belongs to a digest. It grows with each version that is accepted, and is the time where that is more, so that it never
//! goes back, whoever writes it.

use weft_crds::{ConditionStatus, ConditionType, DnsZone, DnsZoneStatus};

use super::validate::Judged;
use crate::condition::{self, ConditionPlan};
use crate::snapshot::Snapshot;

/// The conditions that a DnsZone should have.
#[must_use]
pub fn conditions(zone: &DnsZone, judged: &Judged) -> Vec<ConditionPlan> {
    if let Some(problem) = &judged.rejected {
        let no = |type_| ConditionPlan::of(type_, ConditionStatus::False, problem);
        let mut ready = no(ConditionType::Ready);
        if let Some(serial) = stored(zone).and_then(|status| status.serial)
            && judged.records.is_none()
        {
            ready.message = format!(
                "the version with serial number {serial} is still served, because this one cannot be: {}",
                ready.message
            );
        }
        return vec![
            no(ConditionType::Accepted),
            ready,
            ConditionPlan::of(ConditionType::Stalled, ConditionStatus::True, problem),
        ];
    }
    vec![
        ConditionPlan::ok(
            ConditionType::Accepted,
            "all of it can be used, and no other zone is in its way",
        ),
        ConditionPlan::ok(ConditionType::Ready, "servers answer from this version"),
    ]
}

/// The status that a DnsZone should have.
#[must_use]
pub fn status(
    snapshot: &Snapshot,
    zone: &DnsZone,
    judged: &Judged,
    conditions: &[ConditionPlan],
) -> DnsZoneStatus {
    let old = stored(zone).cloned().unwrap_or_default();
    let conditions = condition::merge(
        &old.conditions,
        conditions,
        zone.metadata.generation,
        snapshot.now,
    );
    let Some(records) = judged.records else {
        return DnsZoneStatus {
            conflicts: Vec::new(),
            conditions,
            ..old
        };
    };
    let same = old.digest.as_deref() == Some(&judged.digest);
    let serial = match old.serial {
        Some(serial) if same => serial,
        before => next_serial(before, snapshot.now.as_second()),
    };
    DnsZoneStatus {
        serial: Some(serial),
        digest: Some(judged.digest.clone()),
        records: Some(u32::try_from(records).unwrap_or(u32::MAX)),
        conflicts: judged.conflicts.clone(),
        conditions,
    }
}

fn stored(zone: &DnsZone) -> Option<&DnsZoneStatus> {
    zone.status.as_ref()
}

/// More than the one before (RFC 1982), and the time where that is more.
fn next_serial(before: Option<u32>, now: i64) -> u32 {
    let now = u32::try_from(now).unwrap_or(1).max(1);
    match before.map(|serial| serial.wrapping_add(1)) {
        Some(next) if next > now => next,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_grow() {
        assert_eq!(next_serial(None, 1000), 1000);
        assert_eq!(next_serial(Some(10), 1000), 1000);
        assert_eq!(next_serial(Some(1000), 1000), 1001);
        assert_eq!(next_serial(Some(2000), 1000), 2001);
    }
}

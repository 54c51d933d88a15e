//! One table for one class of clients: which zones it sees, in which view, and in which order those of one name.

use std::cmp::Reverse;
use std::sync::Arc;

use weft_crds::OnMiss;

use crate::zones::audience::{Audience, Rank};
use crate::zones::builtin::BuiltIn;
use crate::zones::name::Name;
use crate::zones::object::{Body, ZoneObject};
use crate::zones::table::{Holder, Table};

/// A zone, with the numbers of its audiences.
pub struct Placed {
    object: Arc<ZoneObject>,
    visibility: Option<usize>,
    views: Vec<usize>,
}

/// Numbers the audiences of zones that come in the order of their names; equal ones alike.
pub fn place<'a>(
    zones: impl Iterator<Item = (&'a str, Arc<ZoneObject>)>,
) -> (Vec<Placed>, Vec<Audience>) {
    let mut audiences: Vec<Audience> = Vec::new();
    let mut number = |audience: &Audience| {
        let known = audiences.iter().position(|other| other == audience);
        known.unwrap_or_else(|| {
            audiences.push(audience.clone());
            audiences.len() - 1
        })
    };
    let placed = zones
        .map(|(_, object)| Placed {
            visibility: object.visibility.as_ref().map(&mut number),
            views: object
                .views
                .iter()
                .map(|(audience, _)| number(audience))
                .collect(),
            object,
        })
        .collect();
    (placed, audiences)
}

/// The table of the clients that these audiences mean, each with its rank.
pub fn table(
    builtin: &[BuiltIn],
    placed: &[Placed],
    broken: &[Name],
    met: &[(usize, Rank)],
) -> Table {
    let mut table = Table::default();
    let mut seen: Vec<_> = placed
        .iter()
        .filter_map(|zone| {
            let (rank, body) = zone.seen(met)?;
            Some((rank, zone, body))
        })
        .collect();
    // Zones come in the order of their names, and the sort keeps it among equals.
    seen.sort_by_key(|(rank, zone, _)| (Reverse(*rank), Reverse(zone.object.priority)));
    let allowed = |zone: &Placed| zone.object.in_cluster_domain;
    for (_, zone, body) in seen.iter().filter(|(_, zone, _)| allowed(zone)) {
        push(&mut table, &zone.object, body);
    }
    for (index, zone) in builtin.iter().enumerate() {
        table.push(&zone.apex, Holder::BuiltIn(index));
    }
    for (_, zone, body) in seen.iter().filter(|(_, zone, _)| !allowed(zone)) {
        push(&mut table, &zone.object, body);
    }
    for apex in broken {
        table.push(apex, Holder::Broken);
    }
    seen.sort_by_key(|(_, zone, _)| Reverse(zone.object.apex.count()));
    for (_, _, body) in &seen {
        if let Body::Policy(policy) = body {
            table.policies.push(Arc::clone(policy));
        }
    }
    table
}

fn push(table: &mut Table, object: &ZoneObject, body: &Body) {
    match body {
        Body::Authoritative(zone) => {
            let holder = Holder::User(Arc::clone(zone), object.on_miss);
            table.push(&object.apex, holder);
        }
        Body::Forward(forward) => table.push(&object.apex, Holder::Forward(Arc::clone(forward))),
        Body::Policy(_) => {}
    }
}

impl Placed {
    /// The body that the clients of some audiences see, if any, and how specifically they are meant.
    fn seen(&self, met: &[(usize, Rank)]) -> Option<(Rank, &Body)> {
        let rank_of = |audience: usize| {
            let found = met.iter().find(|(met, _)| *met == audience);
            found.map(|(_, rank)| *rank)
        };
        let visible = match self.visibility {
            None => 0,
            Some(audience) => rank_of(audience)?,
        };
        let views = self.views.iter().zip(&self.object.views);
        let meant = views.filter_map(|(audience, (_, body))| Some((rank_of(*audience)?, body)));
        // Of equals the first: the highest rank comes last, and of equal ranks the one that was first.
        let best = meant.rev().max_by_key(|(rank, _)| *rank);
        Some(match best {
            Some((rank, body)) => (rank.max(visible), body),
            None => (visible, &self.object.body),
        })
    }
}

/// Of a zone alone: whether a name that it does not have may be another's.
pub(super) fn goes_on(object: &ZoneObject) -> bool {
    object.on_miss == OnMiss::NextZone
}

//! Comparisons of fields.

use std::net::IpAddr;

use super::super::flight::Flight;
use super::super::load::load_all;
use super::super::{Event, Place};
use super::{Onward, Rules, Way};
use crate::{Match, Operator, Right, Type, Value};

impl<'t> Rules<'_, 't> {
    /// Compares, once for each value that the field may have.
    pub(super) fn compare(
        &self,
        mut flight: Flight<'t>,
        place: Place<'t>,
        comparison: &Match,
    ) -> Vec<Way<'t>> {
        let values = match load_all(&[comparison.field], &flight, self.host) {
            Err(absent) => {
                flight.at(place, Event::Lacks(absent));
                return vec![(flight, Onward::Break)];
            }
            Ok(values) => values,
        };
        flight.share = flight.share.divided(values.len() as u64);
        let connection = flight.attached.connection();
        let label = connection.map_or(0, |connection| connection.label);
        let values = values.into_iter().flatten();
        values
            .map(|value| {
                let mut flight = flight.clone();
                if holds(comparison, value.as_ref(), label) {
                    flight.at(place, Event::Holds(value));
                    (flight, Onward::On)
                } else {
                    flight.at(place, Event::Fails(value));
                    (flight, Onward::Break)
                }
            })
            .collect()
    }
}

/// Whether a comparison holds; of a value without a name nothing is known but that it is another.
fn holds(comparison: &Match, value: Option<&Value>, label: u128) -> bool {
    let Match {
        field,
        operator,
        right,
    } = comparison;
    let equal = match (right, value) {
        (Right::Value(Value::CtLabel(bit)), _) => {
            label.checked_shr(u32::from(*bit)).unwrap_or(0) & 1 != 0
        }
        (_, None) => false,
        (Right::Value(right), Some(value)) => is(value, right, field.kind()),
        (Right::Network(net), Some(Value::Ipv4(address))) => net.contains(&IpAddr::V4(*address)),
        (Right::Network(net), Some(Value::Ipv6(address))) => net.contains(&IpAddr::V6(*address)),
        (Right::Network(_), Some(_)) => false,
        (Right::Range(first, last), Some(value)) => first <= value && value <= last,
        (Right::AnyOf(values), Some(value)) => values.contains(value),
    };
    match operator {
        Operator::Eq => equal,
        Operator::Ne => !equal,
    }
}

fn is(value: &Value, right: &Value, kind: Type) -> bool {
    match (value, right) {
        (Value::CtState(value), Value::CtState(bits))
        | (Value::CtStatus(value), Value::CtStatus(bits)) => value & bits != 0,
        (Value::Ifname(value), Value::Ifname(name)) => match name.strip_suffix('*') {
            Some(start) => value.starts_with(start),
            None => value == name,
        },
        _ => value.kind() == kind && value == right,
    }
}

//! Elements as the kernel lists them, put together to elements of the model.

use std::collections::BTreeMap;

use super::object::{RawElement, data_value};
use crate::uapi::*;
use crate::wire::{Attributes, text};
use crate::{Data, DataType, Element, Key, Part, Set, Type, Verdict, bytes};

/// The elements of a set; none if one of them is not of the set's types.
///
/// Elements of a dynamic set come from packets and are left out.
pub(super) fn elements(set: &Set, raw: &[RawElement]) -> Option<BTreeMap<Key, Element>> {
    if set.flags.dynamic {
        return Some(BTreeMap::new());
    }
    match set.key.as_slice() {
        [single] if set.flags.interval => intervals(*single, set, raw),
        types => raw
            .iter()
            .map(|raw| Some((key(types, raw)?, element(set, raw)?)))
            .collect(),
    }
}

/// A verdict from the attributes of its data.
pub(super) fn verdict(data: &[u8]) -> Option<Verdict> {
    let data = Attributes::parse(data).ok()?;
    let verdict = Attributes::parse(data.get(NFTA_DATA_VERDICT)?).ok()?;
    let chain = || verdict.get(NFTA_VERDICT_CHAIN).map(text);
    Some(match verdict.be32(NFTA_VERDICT_CODE)?.cast_signed() {
        NF_ACCEPT => Verdict::Accept,
        NF_DROP => Verdict::Drop,
        NFT_RETURN => Verdict::Return,
        NFT_JUMP => Verdict::Jump(chain()?),
        NFT_GOTO => Verdict::Goto(chain()?),
        _ => return None,
    })
}

fn key(types: &[Type], raw: &RawElement) -> Option<Key> {
    let first = bytes::values(types, &raw.key)?;
    let last = match &raw.key_end {
        None => first.clone(),
        Some(end) => bytes::values(types, end)?,
    };
    let parts = first.into_iter().zip(last);
    Some(Key(parts
        .map(|(first, last)| Part::range(first, last))
        .collect()))
}

fn element(set: &Set, raw: &RawElement) -> Option<Element> {
    let data = match (&set.data, &raw.data) {
        (None, _) => None,
        (Some(DataType::Verdict), Some(data)) => Some(Data::Verdict(verdict(data)?)),
        (Some(DataType::Values(types)), Some(data)) => {
            let data = data_value(data).ok()?;
            Some(Data::Values(bytes::values(types, &data)?))
        }
        (Some(_), None) => return None,
    };
    Some(Element {
        data,
        comment: raw.comment.clone(),
    })
}

/// Pairs each interval's first element with the one behind its last value.
fn intervals(kind: Type, set: &Set, raw: &[RawElement]) -> Option<BTreeMap<Key, Element>> {
    let mut sorted: Vec<&RawElement> = raw.iter().collect();
    sorted.sort_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end)));
    let mut all = BTreeMap::new();
    for (index, start) in sorted.iter().enumerate() {
        if start.is_end {
            continue;
        }
        let last = match sorted.get(index + 1) {
            Some(next) => bytes::predecessor(&next.key)?,
            None => vec![u8::MAX; kind.len()],
        };
        let first = bytes::value(kind, &start.key)?;
        let part = Part::range(first, bytes::value(kind, &last)?);
        all.insert(Key(vec![part]), element(set, start)?);
    }
    Some(all)
}

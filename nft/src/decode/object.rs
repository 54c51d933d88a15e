//! Chains, rules, sets and elements as single messages carry them.
//!
//! A rule is not understood without the sets that it uses, nor an element without its set; until a
//! [`Reader`](super::Reader) has them all, their bytes are kept.

use std::time::Duration;

use super::DecodeError;
use crate::uapi::*;
use crate::wire::{Attributes, text, user_data};
use crate::{Base, ChainKind, DataType, Hook, Policy, Set, SetFlags, bytes};

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawChain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where the kernel calls it; an error if it is of a kind that the model does not have.
    pub base: Result<Option<Base>, UnknownBase>,
    /// Its comment.
    pub comment: Option<String>,
}

/// A base chain of a kind, hook or policy that the model does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownBase;

/// A rule in the kernel's expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRule {
    /// Its table.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Its comment.
    pub comment: Option<String>,
    /// Its expressions.
    pub(super) expressions: Vec<u8>,
}

/// A set without elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSet {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its definition; none if it has types that the model does not have.
    pub definition: Option<Set>,
    /// It belongs to one rule.
    pub(super) anonymous: bool,
}

/// Elements of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawElements {
    /// Table of the set.
    pub table: String,
    /// Name of the set.
    pub set: String,
    /// The elements.
    pub(super) elements: Vec<RawElement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawElement {
    pub(super) key: Vec<u8>,
    pub(super) key_end: Option<Vec<u8>>,
    pub(super) is_end: bool,
    /// The attributes of the data.
    pub(super) data: Option<Vec<u8>>,
    pub(super) comment: Option<String>,
}

impl RawChain {
    pub(super) fn parse(attributes: &Attributes<'_>) -> Result<Self, DecodeError> {
        let comment = attributes.get(NFTA_CHAIN_USERDATA);
        Ok(Self {
            table: text(attributes.need(NFTA_CHAIN_TABLE, "NFTA_CHAIN_TABLE")?),
            name: text(attributes.need(NFTA_CHAIN_NAME, "NFTA_CHAIN_NAME")?),
            base: match attributes.get(NFTA_CHAIN_HOOK) {
                None => Ok(None),
                Some(hook) => base(attributes, &Attributes::parse(hook)?)
                    .map(Some)
                    .ok_or(UnknownBase),
            },
            comment: comment.and_then(|data| comment_in(data, UDATA_COMMENT)),
        })
    }
}

impl RawRule {
    pub(super) fn parse(attributes: &Attributes<'_>) -> Result<Self, DecodeError> {
        let comment = attributes.get(NFTA_RULE_USERDATA);
        Ok(Self {
            table: text(attributes.need(NFTA_RULE_TABLE, "NFTA_RULE_TABLE")?),
            chain: text(attributes.need(NFTA_RULE_CHAIN, "NFTA_RULE_CHAIN")?),
            comment: comment.and_then(|data| comment_in(data, UDATA_COMMENT)),
            expressions: attributes
                .get(NFTA_RULE_EXPRESSIONS)
                .unwrap_or_default()
                .to_vec(),
        })
    }
}

impl RawSet {
    pub(super) fn parse(attributes: &Attributes<'_>) -> Result<Self, DecodeError> {
        let flags = attributes.be32(NFTA_SET_FLAGS).unwrap_or_default();
        Ok(Self {
            table: text(attributes.need(NFTA_SET_TABLE, "NFTA_SET_TABLE")?),
            name: text(attributes.need(NFTA_SET_NAME, "NFTA_SET_NAME")?),
            definition: definition(attributes, flags)?,
            anonymous: flags & NFT_SET_ANONYMOUS != 0,
        })
    }
}

impl RawElements {
    pub(super) fn parse(attributes: &Attributes<'_>) -> Result<Self, DecodeError> {
        let table = attributes.need(NFTA_SET_ELEM_LIST_TABLE, "NFTA_SET_ELEM_LIST_TABLE")?;
        let set = attributes.need(NFTA_SET_ELEM_LIST_SET, "NFTA_SET_ELEM_LIST_SET")?;
        let list = attributes.get(NFTA_SET_ELEM_LIST_ELEMENTS);
        let list = Attributes::parse(list.unwrap_or_default())?;
        let elements = list.iter().map(|(_, element)| RawElement::parse(element));
        Ok(Self {
            table: text(table),
            set: text(set),
            elements: elements.collect::<Result<_, _>>()?,
        })
    }
}

impl RawElement {
    fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let attributes = Attributes::parse(bytes)?;
        let flags = attributes.be32(NFTA_SET_ELEM_FLAGS).unwrap_or_default();
        let comment = attributes.get(NFTA_SET_ELEM_USERDATA);
        let key = attributes.get(NFTA_SET_ELEM_KEY).unwrap_or_default();
        Ok(Self {
            key: data_value(key)?,
            key_end: attributes
                .get(NFTA_SET_ELEM_KEY_END)
                .map(data_value)
                .transpose()?,
            is_end: flags & NFT_SET_ELEM_INTERVAL_END != 0,
            data: attributes.get(NFTA_SET_ELEM_DATA).map(<[u8]>::to_vec),
            comment: comment.and_then(|data| comment_in(data, UDATA_COMMENT)),
        })
    }
}

/// The bytes of a data attribute that is a value.
pub(super) fn data_value(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let attributes = Attributes::parse(bytes)?;
    let value = attributes.need(NFTA_DATA_VALUE, "NFTA_DATA_VALUE")?;
    Ok(value.to_vec())
}

fn comment_in(data: &[u8], kind: u8) -> Option<String> {
    user_data(data, kind).map(text)
}

fn base(chain: &Attributes<'_>, hook: &Attributes<'_>) -> Option<Base> {
    let kind = chain.string(NFTA_CHAIN_TYPE)?;
    let number = usize::try_from(hook.be32(NFTA_HOOK_HOOKNUM)?).ok()?;
    Some(Base {
        kind: *ChainKind::ALL.iter().find(|known| known.name() == kind)?,
        hook: *Hook::ALL.get(number)?,
        priority: hook.be32(NFTA_HOOK_PRIORITY)?.cast_signed(),
        policy: match chain.be32(NFTA_CHAIN_POLICY)? {
            0 => Policy::Drop,
            1 => Policy::Accept,
            _ => return None,
        },
    })
}

fn definition(attributes: &Attributes<'_>, flags: u32) -> Result<Option<Set>, DecodeError> {
    let key = attributes.be32(NFTA_SET_KEY_TYPE).and_then(bytes::types);
    let known = flags & NFT_SET_OBJECT == 0;
    let data = match attributes.be32(NFTA_SET_DATA_TYPE) {
        _ if flags & NFT_SET_MAP == 0 => Some(None),
        Some(NFT_DATA_VERDICT) => Some(Some(DataType::Verdict)),
        other => other
            .and_then(bytes::types)
            .map(|types| Some(DataType::Values(types))),
    };
    let (Some(key), Some(data), true) = (key, data, known) else {
        return Ok(None);
    };
    let description = Attributes::parse(attributes.get(NFTA_SET_DESC).unwrap_or_default())?;
    let timeout = attributes.be64(NFTA_SET_TIMEOUT);
    let comment = attributes.get(NFTA_SET_USERDATA);
    Ok(Some(Set {
        key,
        data,
        flags: SetFlags {
            interval: flags & NFT_SET_INTERVAL != 0,
            timeout: flags & NFT_SET_TIMEOUT != 0,
            dynamic: flags & NFT_SET_EVAL != 0,
            constant: flags & NFT_SET_CONSTANT != 0,
        },
        size: description
            .be32(NFTA_SET_DESC_SIZE)
            .filter(|size| *size != 0),
        timeout: timeout.map(Duration::from_millis),
        elements: std::collections::BTreeMap::new(),
        comment: comment.and_then(|data| comment_in(data, UDATA_SET_COMMENT)),
    }))
}

//! Sets and their elements as messages.
//!
//! An interval of a set with one part is two elements, its first value and the one behind its last;
//! an interval of a concatenation is one element with two keys.

use std::collections::{BTreeMap, BTreeSet};

use super::{EncodeError, Messages, NAME_LIMIT, bounded, bounded_comment};
use crate::uapi::*;
use crate::wire::{self, Writer};
use crate::{Data, DataType, Element, Key, Part, Set, SetFlags, Type, Value, Verdict, bytes};

/// Bytes of elements in one message, from which on there is no further one: an attribute's length has 16 bits, and
/// an element is far smaller than the other half.
const ELEMENTS_LIMIT: usize = 32 * 1024;
/// Order of bytes as nft names it in user data.
const HOST_ENDIAN: u32 = 1;
const BIG_ENDIAN: u32 = 2;

impl Messages<'_> {
    pub(super) fn add_set(&mut self, name: &str, set: &Set) -> Result<(), EncodeError> {
        bounded("a set's name", name, NAME_LIMIT)?;
        if let Some(comment) = &set.comment {
            bounded_comment(comment)?;
        }
        self.new_set(name, set, 0);
        Ok(())
    }

    /// Makes an anonymous set of values for the rule that follows; returns its identifier and the
    /// name that the kernel completes.
    pub(super) fn add_anonymous_set<'v>(
        &mut self,
        kind: Type,
        values: impl IntoIterator<Item = &'v Value>,
    ) -> (u32, String) {
        let set = Set::new([kind]);
        let name = format!("__set{}.%d", self.set_id + 1);
        self.new_set(&name, &set, NFT_SET_ANONYMOUS | NFT_SET_CONSTANT);
        let id = Some(self.set_id);
        let mut values = values.into_iter().peekable();
        while values.peek().is_some() {
            self.element_message(NEWSETELEM, &name, id, |writer, start| {
                while fits(writer, start)
                    && let Some(value) = values.next()
                {
                    writer.nested(NFTA_LIST_ELEM, |writer| {
                        write_key(writer, NFTA_SET_ELEM_KEY, std::iter::once(value));
                    });
                }
            });
        }
        (self.set_id, name)
    }

    pub(super) fn add_elements(
        &mut self,
        set: &str,
        interval: bool,
        elements: &BTreeMap<Key, Element>,
    ) -> Result<(), EncodeError> {
        self.elements(NEWSETELEM, set, interval, elements.iter())
    }

    pub(super) fn delete_elements(
        &mut self,
        set: &str,
        interval: bool,
        keys: &BTreeSet<Key>,
    ) -> Result<(), EncodeError> {
        let bare = Element::default();
        let elements = keys.iter().map(|key| (key, &bare));
        self.elements(DELSETELEM, set, interval, elements)
    }

    fn new_set(&mut self, name: &str, set: &Set, extra_flags: u32) {
        self.set_id += 1;
        let (table, id) = (self.table, self.set_id);
        self.message(NEWSET, NLM_F_CREATE, |writer| {
            writer.string(NFTA_SET_TABLE, table);
            writer.string(NFTA_SET_NAME, name);
            writer.be32(NFTA_SET_ID, id);
            write_definition(writer, set, extra_flags);
        });
    }

    /// Elements in as many messages as it takes.
    fn elements<'e>(
        &mut self,
        kind: u8,
        set: &str,
        interval: bool,
        elements: impl Iterator<Item = (&'e Key, &'e Element)>,
    ) -> Result<(), EncodeError> {
        let mut elements = elements.peekable();
        let mut written = Ok(());
        while written.is_ok() && elements.peek().is_some() {
            self.element_message(kind, set, None, |writer, start| {
                while written.is_ok()
                    && fits(writer, start)
                    && let Some((key, element)) = elements.next()
                {
                    written = write_element(writer, key, element, interval);
                }
            });
        }
        written
    }

    /// A message of elements; `body` writes them and is told where they begin.
    fn element_message(
        &mut self,
        kind: u8,
        set: &str,
        id: Option<u32>,
        body: impl FnOnce(&mut Writer, usize),
    ) {
        let table = self.table;
        let flags = if kind == NEWSETELEM { NLM_F_CREATE } else { 0 };
        self.message(kind, flags, |writer| {
            writer.string(NFTA_SET_ELEM_LIST_TABLE, table);
            writer.string(NFTA_SET_ELEM_LIST_SET, set);
            if let Some(id) = id {
                writer.be32(NFTA_SET_ELEM_LIST_SET_ID, id);
            }
            writer.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |writer| {
                let start = writer.bytes.len();
                body(writer, start);
            });
        });
    }
}

/// Whether a message whose elements begin at `start` takes one more.
fn fits(writer: &Writer, start: usize) -> bool {
    writer.bytes.len() - start < ELEMENTS_LIMIT
}

fn write_definition(writer: &mut Writer, set: &Set, extra_flags: u32) {
    let Set {
        key,
        data,
        flags,
        size,
        timeout,
        elements: _,
        comment,
    } = set;
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let ranged_concatenation = flags.interval && key.len() > 1;
    let concat = if ranged_concatenation {
        NFT_SET_CONCAT
    } else {
        0
    };
    let map = if data.is_some() { NFT_SET_MAP } else { 0 };
    let flags = set_flags(*flags) | concat | map | extra_flags;
    writer.be32(NFTA_SET_FLAGS, flags);
    writer.be32(NFTA_SET_KEY_TYPE, bytes::type_id(key));
    writer.be32(NFTA_SET_KEY_LEN, number(bytes::length(key)));
    match data {
        None => {}
        Some(DataType::Verdict) => {
            writer.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            writer.be32(NFTA_SET_DATA_LEN, 0);
        }
        Some(DataType::Values(types)) => {
            writer.be32(NFTA_SET_DATA_TYPE, bytes::type_id(types));
            writer.be32(NFTA_SET_DATA_LEN, number(bytes::length(types)));
        }
    }
    if size.is_some() || ranged_concatenation {
        let parts = if ranged_concatenation { key } else { &[][..] };
        writer.nested(NFTA_SET_DESC, |writer| {
            write_description(writer, *size, parts)
        });
    }
    if let Some(timeout) = timeout {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        writer.be64(NFTA_SET_TIMEOUT, milliseconds);
    }
    let user_data = user_data(key, data.as_ref(), comment.as_deref());
    writer.bytes(NFTA_SET_USERDATA, &user_data);
}

fn write_description(writer: &mut Writer, size: Option<u32>, parts: &[Type]) {
    if let Some(size) = size {
        writer.be32(NFTA_SET_DESC_SIZE, size);
    }
    if parts.is_empty() {
        return;
    }
    writer.nested(NFTA_SET_DESC_CONCAT, |writer| {
        for part in parts {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            writer.nested(NFTA_LIST_ELEM, |writer| {
                writer.be32(NFTA_SET_FIELD_LEN, length)
            });
        }
    });
}

fn set_flags(flags: SetFlags) -> u32 {
    let SetFlags {
        interval,
        timeout,
        dynamic,
        constant,
    } = flags;
    let table = [
        (interval, NFT_SET_INTERVAL),
        (timeout, NFT_SET_TIMEOUT),
        (dynamic, NFT_SET_EVAL),
        (constant, NFT_SET_CONSTANT),
    ];
    table
        .into_iter()
        .fold(0, |all, (on, flag)| if on { all | flag } else { all })
}

/// What nft keeps beside a set to print it: orders of bytes and the comment.
fn user_data(key: &[Type], data: Option<&DataType>, comment: Option<&str>) -> Vec<u8> {
    let mut all = Vec::new();
    let order = byte_order(key).to_ne_bytes();
    wire::push_user_data(&mut all, UDATA_SET_KEYBYTEORDER, &order);
    if let Some(data) = data {
        let order = match data {
            DataType::Verdict => 0,
            DataType::Values(types) => byte_order(types),
        };
        wire::push_user_data(&mut all, UDATA_SET_DATABYTEORDER, &order.to_ne_bytes());
    }
    if let Some(comment) = comment {
        wire::push_comment(&mut all, UDATA_SET_COMMENT, comment);
    }
    all
}

fn byte_order(types: &[Type]) -> u32 {
    match types {
        [single] if single.is_big_endian() => BIG_ENDIAN,
        [_] => HOST_ENDIAN,
        _ => 0,
    }
}

/// The kernel's elements for one of ours.
fn write_element(
    writer: &mut Writer,
    key: &Key,
    element: &Element,
    interval: bool,
) -> Result<(), EncodeError> {
    let Element { data, comment } = element;
    let Key(parts) = key;
    check_parts(key, interval)?;
    let comment = comment.as_deref().map(bounded_comment).transpose()?;
    writer.nested(NFTA_LIST_ELEM, |writer| {
        write_key(writer, NFTA_SET_ELEM_KEY, parts.iter().map(Part::first));
        if interval && parts.len() > 1 {
            write_key(writer, NFTA_SET_ELEM_KEY_END, parts.iter().map(Part::last));
        }
        if let Some(data) = data {
            writer.nested(NFTA_SET_ELEM_DATA, |writer| write_data(writer, data));
        }
        if let Some(comment) = comment {
            let data = wire::comment_user_data(UDATA_COMMENT, comment);
            writer.bytes(NFTA_SET_ELEM_USERDATA, &data);
        }
    });
    if let ([part], true) = (parts.as_slice(), interval)
        && let Some(end) = bytes::successor(&bytes::of(part.last()))
    {
        writer.nested(NFTA_LIST_ELEM, |writer| write_end(writer, &end));
    }
    Ok(())
}

/// Bytes of the sixteen registers.
const KEY_LIMIT: usize = 64;

fn check_parts(key: &Key, interval: bool) -> Result<(), EncodeError> {
    if bytes::concatenated_length(key.0.iter().map(Part::first)) > KEY_LIMIT {
        return Err(EncodeError::KeyTooLong(key.to_string()));
    }
    for part in &key.0 {
        let ranged = match part {
            Part::One(_) => false,
            Part::Range(..) => true,
        };
        let ordered = part.first().kind().is_big_endian();
        if ranged && !(interval && ordered) {
            return Err(EncodeError::NotARange(part.to_string()));
        }
    }
    Ok(())
}

/// The element behind an interval.
fn write_end(writer: &mut Writer, key: &[u8]) {
    writer.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
    writer.nested(NFTA_SET_ELEM_KEY, |writer| {
        writer.bytes(NFTA_DATA_VALUE, key)
    });
}

fn write_key<'v>(writer: &mut Writer, kind: u16, key: impl ExactSizeIterator<Item = &'v Value>) {
    writer.nested(kind, |writer| write_values(writer, key));
}

fn write_values<'v>(writer: &mut Writer, values: impl ExactSizeIterator<Item = &'v Value>) {
    writer.attribute(NFTA_DATA_VALUE, |writer| {
        bytes::concatenate(values, &mut writer.bytes);
    });
}

fn write_data(writer: &mut Writer, data: &Data) {
    match data {
        Data::Verdict(verdict) => write_verdict(writer, verdict),
        Data::Values(values) => write_values(writer, values.iter()),
    }
}

/// A verdict as data.
pub(super) fn write_verdict(writer: &mut Writer, verdict: &Verdict) {
    let code = match verdict {
        Verdict::Accept => NF_ACCEPT,
        Verdict::Drop => NF_DROP,
        Verdict::Return => NFT_RETURN,
        Verdict::Jump(_) => NFT_JUMP,
        Verdict::Goto(_) => NFT_GOTO,
    };
    writer.nested(NFTA_DATA_VERDICT, |writer| {
        writer.bytes(NFTA_VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = verdict.chain() {
            writer.string(NFTA_VERDICT_CHAIN, chain);
        }
    });
}

impl Part {
    /// The smallest value of the part.
    pub(crate) fn first(&self) -> &Value {
        match self {
            Self::One(value) | Self::Range(value, _) => value,
        }
    }

    /// The largest value of the part.
    pub(crate) fn last(&self) -> &Value {
        match self {
            Self::One(value) | Self::Range(_, value) => value,
        }
    }
}

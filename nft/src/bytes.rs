//! Values as the kernel's bytes, and the numbers that nft gives to types.
//!
//! A part of a concatenation takes whole registers of four bytes; its rest is zero.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{Type, Value};

/// Bytes of a register.
const REGISTER: usize = 4;
/// Bits that a type takes in the number of a concatenation.
const TYPE_BITS: u32 = 6;
const IFNAMSIZ: usize = 16;
/// Bytes of a connection's label (`NF_CT_LABELS_MAX_SIZE`).
const LABEL: usize = 16;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// `RTN_LOCAL`
const RTN_LOCAL: u32 = 2;

/// Types, nft's numbers for them (`enum datatypes` of nftables) and their lengths in bytes.
const TYPES: [(Type, u32, usize); 16] = [
    (Type::NfProto, 2, 1),
    (Type::Ipv4Addr, 7, 4),
    (Type::Ipv6Addr, 8, 16),
    (Type::InetProto, 12, 1),
    (Type::InetService, 13, 2),
    (Type::Mark, 19, 4),
    (Type::IfaceIndex, 20, 4),
    (Type::ClassId, 23, 4),
    (Type::CtState, 26, 4),
    (Type::CtDir, 27, 1),
    (Type::CtStatus, 28, 4),
    (Type::Icmpv6Type, 29, 1),
    (Type::CtLabel, 30, LABEL),
    (Type::DevGroup, 35, 4),
    (Type::FibAddrType, 38, 4),
    (Type::Ifname, 41, IFNAMSIZ),
];

impl Type {
    fn row(self) -> (u32, usize) {
        let row = TYPES.iter().find(|(kind, ..)| *kind == self);
        row.map_or((0, 0), |(_, id, length)| (*id, *length))
    }

    /// Length of a value in bytes.
    pub(crate) fn len(self) -> usize {
        self.row().1
    }

    /// Registers that a value takes.
    pub(crate) fn registers(self) -> usize {
        self.len().div_ceil(REGISTER)
    }

    /// Whether larger values have larger bytes, so that the kernel can keep ranges of them.
    pub(crate) fn is_big_endian(self) -> bool {
        match self {
            Self::Ipv4Addr
            | Self::Ipv6Addr
            | Self::InetProto
            | Self::InetService
            | Self::NfProto
            | Self::Icmpv6Type => true,
            Self::Mark
            | Self::IfaceIndex
            | Self::Ifname
            | Self::ClassId
            | Self::DevGroup
            | Self::CtState
            | Self::CtStatus
            | Self::CtLabel
            | Self::CtDir
            | Self::FibAddrType => false,
        }
    }
}

/// The number of a type, or of a concatenation of types.
pub(crate) fn type_id(types: &[Type]) -> u32 {
    types
        .iter()
        .fold(0, |id, kind| id << TYPE_BITS | kind.row().0)
}

/// The types behind a number; none if one of them is unknown here.
pub(crate) fn types(mut id: u32) -> Option<Vec<Type>> {
    let mut types = Vec::new();
    while id != 0 {
        let low = id & ((1 << TYPE_BITS) - 1);
        let (kind, ..) = TYPES.iter().find(|(_, known, _)| *known == low)?;
        types.insert(0, *kind);
        id >>= TYPE_BITS;
    }
    (!types.is_empty()).then_some(types)
}

/// Length of a key or datum of these types: parts of a concatenation fill whole registers.
pub(crate) fn length(types: &[Type]) -> usize {
    match types {
        [single] => single.len(),
        several => several.iter().map(|kind| kind.registers() * REGISTER).sum(),
    }
}

/// The bytes of a value.
pub(crate) fn of(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.kind().len());
    write(value, &mut bytes);
    bytes
}

/// Appends the bytes of a concatenation.
pub(crate) fn concatenate<'v>(
    values: impl ExactSizeIterator<Item = &'v Value>,
    bytes: &mut Vec<u8>,
) {
    let (single, start) = (values.len() == 1, bytes.len());
    for value in values {
        write(value, bytes);
        if !single {
            let length = (bytes.len() - start).next_multiple_of(REGISTER);
            bytes.resize(start + length, 0);
        }
    }
}

/// Length of a concatenation in registers, in bytes.
pub(crate) fn concatenated_length<'v>(values: impl Iterator<Item = &'v Value>) -> usize {
    let registers = values.map(|value| value.kind().registers());
    registers.sum::<usize>() * REGISTER
}

/// Appends the bytes of a value.
fn write(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Ipv4(address) => bytes.extend(address.octets()),
        Value::Ipv6(address) => bytes.extend(address.octets()),
        Value::InetProto(number) | Value::Icmpv6Type(number) => bytes.push(*number),
        Value::InetService(port) => bytes.extend(port.to_be_bytes()),
        Value::Mark(number)
        | Value::IfaceIndex(number)
        | Value::ClassId(number)
        | Value::DevGroup(number)
        | Value::CtState(number)
        | Value::CtStatus(number) => bytes.extend(number.to_ne_bytes()),
        Value::Ifname(name) => {
            let end = bytes.len() + IFNAMSIZ;
            bytes.extend(name.as_bytes());
            bytes.resize(end, 0);
        }
        Value::NfProtoIpv4 => bytes.push(NFPROTO_IPV4),
        Value::NfProtoIpv6 => bytes.push(NFPROTO_IPV6),
        Value::CtLabel(bit) => {
            let byte = bytes.len() + usize::from(bit / 8);
            bytes.resize(bytes.len() + LABEL, 0);
            // Numbers of machine words: the first byte has the lowest bits on a little-endian machine.
            if let Some(byte) = bytes.get_mut(byte) {
                *byte = 1 << (bit % 8);
            }
        }
        Value::CtOriginal => bytes.push(0),
        Value::CtReply => bytes.push(1),
        Value::FibLocal => bytes.extend(RTN_LOCAL.to_ne_bytes()),
    }
}

/// The value that bytes of exactly the type's length stand for.
pub(crate) fn value(kind: Type, bytes: &[u8]) -> Option<Value> {
    let host = || Some(u32::from_ne_bytes(bytes.try_into().ok()?));
    let byte = || match bytes {
        [byte] => Some(*byte),
        _ => None,
    };
    Some(match kind {
        Type::Ipv4Addr => Value::Ipv4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        Type::Ipv6Addr => Value::Ipv6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        Type::InetProto => Value::InetProto(byte()?),
        Type::Icmpv6Type => Value::Icmpv6Type(byte()?),
        Type::InetService => Value::InetService(u16::from_be_bytes(bytes.try_into().ok()?)),
        Type::Mark => Value::Mark(host()?),
        Type::IfaceIndex => Value::IfaceIndex(host()?),
        Type::ClassId => Value::ClassId(host()?),
        Type::DevGroup => Value::DevGroup(host()?),
        Type::CtState => Value::CtState(host()?),
        Type::CtStatus => Value::CtStatus(host()?),
        Type::CtLabel => Value::CtLabel(label(bytes)?),
        Type::Ifname => Value::Ifname(interface_name(bytes)?),
        Type::NfProto => match byte()? {
            NFPROTO_IPV4 => Value::NfProtoIpv4,
            NFPROTO_IPV6 => Value::NfProtoIpv6,
            _ => return None,
        },
        Type::CtDir => match byte()? {
            0 => Value::CtOriginal,
            1 => Value::CtReply,
            _ => return None,
        },
        Type::FibAddrType => match host()? {
            RTN_LOCAL => Value::FibLocal,
            _ => return None,
        },
    })
}

/// The values that a concatenation of these types stands for.
pub(crate) fn values(types: &[Type], bytes: &[u8]) -> Option<Vec<Value>> {
    if let [single] = types {
        return Some(vec![value(*single, bytes)?]);
    }
    let mut rest = bytes;
    let mut values = Vec::new();
    for kind in types {
        values.push(value(*kind, rest.get(..kind.len())?)?);
        rest = rest.get(kind.registers() * REGISTER..)?;
    }
    rest.is_empty().then_some(values)
}

/// The bytes of the next larger value; none behind the largest.
pub(crate) fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            return Some(next);
        }
    }
    None
}

/// The bytes of the next smaller value; none before the smallest.
pub(crate) fn predecessor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut previous = bytes.to_vec();
    for byte in previous.iter_mut().rev() {
        let (difference, borrow) = byte.overflowing_sub(1);
        *byte = difference;
        if !borrow {
            return Some(previous);
        }
    }
    None
}

/// The one bit of a label.
fn label(bytes: &[u8]) -> Option<u8> {
    let mut set = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
    let (Some((index, byte)), None, true) = (set.next(), set.next(), bytes.len() == LABEL) else {
        return None;
    };
    let bit = u32::try_from(index).ok()? * 8 + byte.trailing_zeros();
    (byte.count_ones() == 1).then(|| u8::try_from(bit).ok())?
}

fn interface_name(bytes: &[u8]) -> Option<String> {
    if bytes.len() != IFNAMSIZ {
        return None;
    }
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (name, padding) = bytes.split_at(end);
    let name = std::str::from_utf8(name).ok()?;
    let exact = !name.is_empty() && padding.iter().all(|byte| *byte == 0);
    exact.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concatenated(values: &[Value]) -> Vec<u8> {
        let mut bytes = Vec::new();
        concatenate(values.iter(), &mut bytes);
        bytes
    }

    #[test]
    fn types_have_the_numbers_that_nft_gives_them() {
        assert_eq!(type_id(&[Type::Ipv4Addr]), 7);
        assert_eq!(type_id(&[Type::Ipv4Addr, Type::InetService]), 0x1cd);
        assert_eq!(type_id(&[Type::Mark, Type::IfaceIndex]), 0x4d4);
        assert_eq!(types(0x1cd), Some(vec![Type::Ipv4Addr, Type::InetService]));
        assert_eq!(types(0), None);
        assert_eq!(types(63), None, "no such type");
    }

    #[test]
    fn parts_of_a_concatenation_fill_registers() {
        let values = [Value::InetProto(6), Value::InetService(80)];
        let bytes = concatenated(&values);
        assert_eq!(bytes, [6, 0, 0, 0, 0, 80, 0, 0]);
        let types = [Type::InetProto, Type::InetService];
        assert_eq!(length(&types), 8);
        assert_eq!(super::values(&types, &bytes), Some(values.to_vec()));
        assert_eq!(super::values(&types, &bytes[..7]), None);
        assert_eq!(concatenated(&[Value::InetProto(6)]), [6]);
    }

    #[test]
    fn neighbours_of_values_carry_over_bytes() {
        assert_eq!(successor(&[1, 255]), Some(vec![2, 0]));
        assert_eq!(successor(&[255, 255]), None);
        assert_eq!(predecessor(&[2, 0]), Some(vec![1, 255]));
        assert_eq!(predecessor(&[0, 0]), None);
    }

    #[test]
    fn an_interface_name_is_padded_and_nothing_else() {
        let name = Value::Ifname("eth0".to_owned());
        let bytes = of(&name);
        assert_eq!(bytes.len(), 16);
        assert_eq!(value(Type::Ifname, &bytes), Some(name));
        let mut odd = bytes;
        odd[10] = b'x';
        assert_eq!(value(Type::Ifname, &odd), None);
    }
}

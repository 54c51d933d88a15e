//! Rules as lists of the kernel's expressions.
//!
//! Every statement loads what it needs from register 1 on; parts of a key follow each other, each
//! at a whole register of four bytes. In front of a statement come the comparisons that its fields
//! presume, see [`Presumed`].

use std::time::Duration;

use ipnet::IpNet;

use super::{EncodeError, Messages, bounded_comment, set};
use crate::field::{CT_LABELS, Load, META_PRIORITY, Presumed};
use crate::uapi::*;
use crate::wire::{self, Writer};
use crate::{
    Class, Field, Match, NatFamily, NatTarget, Operation, Operator, Reject, Right, Rule, Statement,
    Type, Value, bytes,
};

/// Registers of four bytes that there are.
const REGISTERS: usize = 16;

impl Messages<'_> {
    pub(super) fn add_rule(&mut self, chain: &str, rule: &Rule) -> Result<(), EncodeError> {
        let Rule {
            statements,
            comment,
        } = rule;
        let comment = comment.as_deref().map(bounded_comment).transpose()?;
        let mut expressions = Writer::default();
        let mut presumed = Presumed::default();
        for statement in statements {
            for need in presumed.needs(statement) {
                self.statement(&mut expressions, &need)?;
            }
            self.statement(&mut expressions, statement)?;
        }
        let table = self.table;
        self.message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |writer| {
            writer.string(NFTA_RULE_TABLE, table);
            writer.string(NFTA_RULE_CHAIN, chain);
            writer.nested(NFTA_RULE_EXPRESSIONS, |writer| {
                writer.bytes.extend(&expressions.bytes);
            });
            if let Some(comment) = comment {
                let data = wire::comment_user_data(UDATA_COMMENT, comment);
                writer.bytes(NFTA_RULE_USERDATA, &data);
            }
        });
        Ok(())
    }

    fn statement(&mut self, w: &mut Writer, statement: &Statement) -> Result<(), EncodeError> {
        match statement {
            Statement::Match(comparison) => self.comparison(w, comparison)?,
            Statement::Lookup { key, set, negated } => {
                load_key(w, key)?;
                let flags = if *negated { NFT_LOOKUP_F_INV } else { 0 };
                lookup(w, set, None, None, flags);
            }
            Statement::Vmap { key, map } => {
                load_key(w, key)?;
                lookup(w, map, None, Some(VERDICT_REGISTER), 0);
            }
            Statement::SetPriority(class) => set_priority(w, class)?,
            Statement::Dynamic {
                operation,
                set,
                key,
                timeout,
                data,
            } => dynamic(w, *operation, set, key, *timeout, *data)?,
            Statement::Dnat { family, to } => dnat(w, *family, to)?,
            Statement::Masquerade { fully_random } => expression(w, "masq", |w| {
                if *fully_random {
                    w.be32(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
                }
            }),
            Statement::Notrack => expression(w, "notrack", |_| {}),
            Statement::SetLabel(bit) => set_label(w, *bit),
            Statement::Counter => expression(w, "counter", |_| {}),
            Statement::Verdict(verdict) => expression(w, "immediate", |w| {
                w.be32(NFTA_IMMEDIATE_DREG, VERDICT_REGISTER);
                w.nested(NFTA_IMMEDIATE_DATA, |w| set::write_verdict(w, verdict));
            }),
            Statement::Reject(reject) => write_reject(w, *reject),
            Statement::Unknown(what) => return Err(EncodeError::Unknown(what.clone())),
        }
        Ok(())
    }

    fn comparison(&mut self, w: &mut Writer, comparison: &Match) -> Result<(), EncodeError> {
        let Match {
            field,
            operator,
            right,
        } = comparison;
        let empty = || EncodeError::Empty(comparison.to_string());
        load(w, *field, 0);
        let number = match operator {
            Operator::Eq => OP_EQ,
            Operator::Ne => OP_NEQ,
        };
        match right {
            Right::Value(value) if value.kind().is_bits() => {
                let bits = bytes::of(value);
                mask(w, &bits);
                // Any bit set is "not zero".
                compare(w, OP_NEQ - number, &vec![0; bits.len()]);
            }
            Right::Value(value) => {
                let data = comparable(value);
                if data.is_empty() {
                    return Err(empty());
                }
                compare(w, number, &data);
            }
            Right::Network(net) => {
                if net.prefix_len() == 0 {
                    return Err(empty());
                }
                mask(w, &netmask(*net));
                compare(w, number, &bytes::of(&net.network().into()));
            }
            Right::Range(first, last) => {
                // The kernel compares bytes, so numbers of the host's order have none.
                if !field.kind().is_big_endian() {
                    return Err(EncodeError::NotARange(comparison.to_string()));
                }
                range(w, number, first, last);
            }
            Right::AnyOf(values) => {
                if values.is_empty() {
                    return Err(empty());
                }
                let (id, name) = self.add_anonymous_set(field.kind(), values);
                let flags = if number == OP_NEQ {
                    NFT_LOOKUP_F_INV
                } else {
                    0
                };
                lookup(w, &name, Some(id), None, flags);
            }
        }
        Ok(())
    }
}

/// `NFT_REG_VERDICT`
const VERDICT_REGISTER: u32 = 0;

/// The kernel's number of a register of four bytes: every fourth has nft's older, shorter number.
fn register(index: usize) -> u32 {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    if index.is_multiple_of(4) {
        1 + index / 4
    } else {
        8 + index
    }
}

fn expression(w: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    w.nested(NFTA_LIST_ELEM, |w| {
        w.string(NFTA_EXPR_NAME, name);
        w.nested(NFTA_EXPR_DATA, data);
    });
}

/// Loads the parts of a key one behind the other.
fn load_key(w: &mut Writer, key: &[Field]) -> Result<(), EncodeError> {
    load_key_at(w, key, 0).map(drop)
}

/// The same from a register on; the register behind.
fn load_key_at(w: &mut Writer, key: &[Field], first: usize) -> Result<usize, EncodeError> {
    let mut index = first;
    for field in key {
        if index + field.kind().registers() > REGISTERS {
            let key: Vec<String> = key.iter().map(ToString::to_string).collect();
            return Err(EncodeError::KeyTooLong(key.join(" . ")));
        }
        load(w, *field, index);
        index += field.kind().registers();
    }
    Ok(index)
}

fn load(w: &mut Writer, field: Field, index: usize) {
    let register = register(index);
    match field.load() {
        Load::Meta(key) => expression(w, "meta", |w| {
            w.be32(NFTA_META_KEY, key);
            w.be32(NFTA_META_DREG, register);
        }),
        Load::Payload(base, offset, length) => expression(w, "payload", |w| {
            w.be32(NFTA_PAYLOAD_DREG, register);
            w.be32(NFTA_PAYLOAD_BASE, base);
            w.be32(NFTA_PAYLOAD_OFFSET, offset);
            w.be32(NFTA_PAYLOAD_LEN, length);
        }),
        Load::Ct(key, direction) => expression(w, "ct", |w| {
            w.be32(NFTA_CT_KEY, key);
            w.be32(NFTA_CT_DREG, register);
            if let Some(direction) = direction {
                w.bytes(NFTA_CT_DIRECTION, &[direction]);
            }
        }),
        Load::Random(modulus, offset) => expression(w, "numgen", |w| {
            w.be32(NFTA_NG_DREG, register);
            w.be32(NFTA_NG_MODULUS, modulus);
            w.be32(NFTA_NG_TYPE, NFT_NG_RANDOM);
            w.be32(NFTA_NG_OFFSET, offset);
        }),
        Load::FibDaddrType => expression(w, "fib", |w| {
            w.be32(NFTA_FIB_DREG, register);
            w.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
            w.be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
        }),
    }
}

/// The bytes to compare with: of an interface name that ends in `*`, those before it.
fn comparable(value: &Value) -> Vec<u8> {
    match value {
        Value::Ifname(name) => match name.strip_suffix('*') {
            Some(start) => start.as_bytes().to_vec(),
            None => bytes::of(value),
        },
        value => bytes::of(value),
    }
}

fn netmask(net: IpNet) -> Vec<u8> {
    bytes::of(&net.netmask().into())
}

fn compare(w: &mut Writer, operator: u32, value: &[u8]) {
    expression(w, "cmp", |w| {
        w.be32(NFTA_CMP_SREG, register(0));
        w.be32(NFTA_CMP_OP, operator);
        w.nested(NFTA_CMP_DATA, |w| w.bytes(NFTA_DATA_VALUE, value));
    });
}

fn mask(w: &mut Writer, mask: &[u8]) {
    let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
    expression(w, "bitwise", |w| {
        w.be32(NFTA_BITWISE_SREG, register(0));
        w.be32(NFTA_BITWISE_DREG, register(0));
        w.be32(NFTA_BITWISE_LEN, length);
        w.nested(NFTA_BITWISE_MASK, |w| w.bytes(NFTA_DATA_VALUE, mask));
        let zero = vec![0; mask.len()];
        w.nested(NFTA_BITWISE_XOR, |w| w.bytes(NFTA_DATA_VALUE, &zero));
    });
}

fn range(w: &mut Writer, operator: u32, first: &Value, last: &Value) {
    let (first, last) = (bytes::of(first), bytes::of(last));
    expression(w, "range", |w| {
        w.be32(NFTA_RANGE_SREG, register(0));
        w.be32(NFTA_RANGE_OP, operator);
        w.nested(NFTA_RANGE_FROM_DATA, |w| w.bytes(NFTA_DATA_VALUE, &first));
        w.nested(NFTA_RANGE_TO_DATA, |w| w.bytes(NFTA_DATA_VALUE, &last));
    });
}

fn lookup(w: &mut Writer, set: &str, id: Option<u32>, destination: Option<u32>, flags: u32) {
    expression(w, "lookup", |w| {
        w.string(NFTA_LOOKUP_SET, set);
        w.be32(NFTA_LOOKUP_SREG, register(0));
        if let Some(destination) = destination {
            w.be32(NFTA_LOOKUP_DREG, destination);
        }
        if let Some(id) = id {
            w.be32(NFTA_LOOKUP_SET_ID, id);
        }
        if flags != 0 {
            w.be32(NFTA_LOOKUP_FLAGS, flags);
        }
    });
}

fn set_priority(w: &mut Writer, class: &Class) -> Result<(), EncodeError> {
    match class {
        Class::Literal(class) => immediate(w, register(0), &class.to_ne_bytes()),
        Class::Map { key, map } => {
            load_key(w, key)?;
            lookup(w, map, None, Some(register(0)), 0);
        }
    }
    expression(w, "meta", |w| {
        w.be32(NFTA_META_KEY, META_PRIORITY);
        w.be32(NFTA_META_SREG, register(0));
    });
    Ok(())
}

fn set_label(w: &mut Writer, bit: u8) {
    immediate(w, register(0), &bytes::of(&Value::CtLabel(bit)));
    expression(w, "ct", |w| {
        w.be32(NFTA_CT_KEY, CT_LABELS);
        w.be32(NFTA_CT_SREG, register(0));
    });
}

/// The data stand behind the key.
fn dynamic(
    w: &mut Writer,
    operation: Operation,
    set: &str,
    key: &[Field],
    timeout: Option<Duration>,
    data: Option<Field>,
) -> Result<(), EncodeError> {
    // nft reads the data from a register of sixteen bytes.
    let behind = load_key_at(w, key, 0)?.next_multiple_of(4);
    if let Some(field) = data {
        load_key_at(w, &[field], behind)?;
    }
    expression(w, "dynset", |w| {
        w.string(NFTA_DYNSET_SET_NAME, set);
        w.be32(NFTA_DYNSET_OP, operation.number());
        w.be32(NFTA_DYNSET_SREG_KEY, register(0));
        if data.is_some() {
            w.be32(NFTA_DYNSET_SREG_DATA, register(behind));
        }
        if let Some(timeout) = timeout {
            let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            w.be64(NFTA_DYNSET_TIMEOUT, milliseconds);
        }
    });
    Ok(())
}

fn dnat(w: &mut Writer, family: NatFamily, to: &NatTarget) -> Result<(), EncodeError> {
    let (number, address_type) = match family {
        NatFamily::Ip => (NFPROTO_IPV4, Type::Ipv4Addr),
        NatFamily::Ip6 => (NFPROTO_IPV6, Type::Ipv6Addr),
    };
    let port_register = register(address_type.registers());
    let port = match to {
        NatTarget::Map { key, map } => {
            load_key(w, key)?;
            lookup(w, map, None, Some(register(0)), 0);
            true
        }
        NatTarget::Literal { address, port } => {
            immediate(w, register(0), &bytes::of(&(*address).into()));
            if let Some(port) = port {
                immediate(w, port_register, &port.to_be_bytes());
            }
            port.is_some()
        }
    };
    let specified = if port {
        NF_NAT_RANGE_PROTO_SPECIFIED
    } else {
        0
    };
    expression(w, "nat", |w| {
        w.be32(NFTA_NAT_TYPE, NFT_NAT_DNAT);
        w.be32(NFTA_NAT_FAMILY, number);
        w.be32(NFTA_NAT_REG_ADDR_MIN, register(0));
        if port {
            w.be32(NFTA_NAT_REG_PROTO_MIN, port_register);
        }
        w.be32(NFTA_NAT_FLAGS, NF_NAT_RANGE_MAP_IPS | specified);
    });
    Ok(())
}

fn immediate(w: &mut Writer, register: u32, data: &[u8]) {
    expression(w, "immediate", |w| {
        w.be32(NFTA_IMMEDIATE_DREG, register);
        w.nested(NFTA_IMMEDIATE_DATA, |w| w.bytes(NFTA_DATA_VALUE, data));
    });
}

fn write_reject(w: &mut Writer, reject: Reject) {
    let (kind, code) = reject.numbers();
    expression(w, "reject", |w| {
        w.be32(NFTA_REJECT_TYPE, kind);
        w.bytes(NFTA_REJECT_ICMP_CODE, &[code]);
    });
}

impl Operation {
    /// All operations, each at the place of its number.
    pub(crate) const ALL: [Self; 3] = [Self::Add, Self::Update, Self::Delete];

    fn number(self) -> u32 {
        match self {
            Self::Add => 0,
            Self::Update => 1,
            Self::Delete => 2,
        }
    }
}

impl Reject {
    /// All rejections.
    pub(crate) const ALL: [Self; 5] = [
        Self::TcpReset,
        Self::PortUnreachable,
        Self::AdminProhibited,
        Self::NoRoute,
        Self::HostUnreachable,
    ];

    /// The kernel's type and code (`NFT_REJECT_*`, `NFT_REJECT_ICMPX_*`).
    pub(crate) fn numbers(self) -> (u32, u8) {
        match self {
            Self::TcpReset => (NFT_REJECT_TCP_RST, 0),
            Self::NoRoute => (NFT_REJECT_ICMPX_UNREACH, 0),
            Self::PortUnreachable => (NFT_REJECT_ICMPX_UNREACH, 1),
            Self::HostUnreachable => (NFT_REJECT_ICMPX_UNREACH, 2),
            Self::AdminProhibited => (NFT_REJECT_ICMPX_UNREACH, 3),
        }
    }
}

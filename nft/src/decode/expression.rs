//! The kernel's expressions read back as statements.
//!
//! The reverse of the encoder and nothing more: what it did not write comes back as unknown. The
//! comparisons that it put in front of a statement are taken away again.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

use super::object::data_value;
use super::set;
use crate::field::{CT_LABELS, Load, META_PRIORITY, Presumed};
use crate::uapi::*;
use crate::wire::{Attributes, text};
use crate::{
    Class, Field, Key, NatFamily, NatTarget, Operation, Operator, Part, Reject, Right, Set,
    Statement, Type, Value, Verdict, bytes,
};

type Sets = BTreeMap<String, Set>;

/// The statements that expressions stand for; an error names the first one that is unknown.
pub(super) fn statements(
    expressions: &[u8],
    named: &Sets,
    anonymous: &Sets,
) -> Result<Vec<Statement>, String> {
    let list = Attributes::parse(expressions).map_err(|error| error.to_string())?;
    let mut rule = Rule {
        named,
        anonymous,
        registers: BTreeMap::new(),
        presumed: Presumed::default(),
        statements: Vec::new(),
    };
    for (_, expression) in list.iter() {
        let unknown = |name: &str| name.to_owned();
        let expression = Attributes::parse(expression).map_err(|error| error.to_string())?;
        let name = expression.string(NFTA_EXPR_NAME);
        let name = name.ok_or_else(|| unknown("expression without a name"))?;
        let data = Attributes::parse(expression.get(NFTA_EXPR_DATA).unwrap_or_default());
        let data = data.map_err(|error| error.to_string())?;
        rule.expression(&name, &data)
            .ok_or_else(|| unknown(&name))?;
    }
    Ok(rule.statements)
}

/// A rule as far as it is read.
struct Rule<'s> {
    named: &'s Sets,
    anonymous: &'s Sets,
    /// What stands in the registers, by the place of the first one of four bytes.
    registers: BTreeMap<u32, Loaded>,
    presumed: Presumed,
    statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
enum Loaded {
    Field(Field),
    Masked(Field, Vec<u8>),
    Data(Vec<u8>),
    Mapped { key: Vec<Field>, map: String },
}

impl Rule<'_> {
    fn expression(&mut self, name: &str, data: &Attributes<'_>) -> Option<()> {
        match name {
            "meta" if data.get(NFTA_META_SREG).is_some() => self.set_priority(data),
            "numgen" => {
                let random = data.be32(NFTA_NG_TYPE)? == NFT_NG_RANDOM;
                random.then_some(())?;
                let offset = data.be32(NFTA_NG_OFFSET).unwrap_or_default();
                let load = Load::Random(data.be32(NFTA_NG_MODULUS)?, offset);
                self.load(data.be32(NFTA_NG_DREG)?, load)
            }
            "dynset" => self.dynamic(data),
            "meta" => {
                let load = Load::Meta(data.be32(NFTA_META_KEY)?);
                self.load(data.be32(NFTA_META_DREG)?, load)
            }
            "payload" => {
                let load = Load::Payload(
                    data.be32(NFTA_PAYLOAD_BASE)?,
                    data.be32(NFTA_PAYLOAD_OFFSET)?,
                    data.be32(NFTA_PAYLOAD_LEN)?,
                );
                self.load(data.be32(NFTA_PAYLOAD_DREG)?, load)
            }
            "ct" if data.get(NFTA_CT_SREG).is_some() => self.set_label(data),
            "ct" => {
                let direction = match data.get(NFTA_CT_DIRECTION) {
                    None => None,
                    Some([direction]) => Some(*direction),
                    Some(_) => return None,
                };
                let load = Load::Ct(data.be32(NFTA_CT_KEY)?, direction);
                self.load(data.be32(NFTA_CT_DREG)?, load)
            }
            "fib" => {
                let result = data.be32(NFTA_FIB_RESULT)?;
                let flags = data.be32(NFTA_FIB_FLAGS)?;
                let known = (result, flags) == (NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR);
                known.then_some(())?;
                self.load(data.be32(NFTA_FIB_DREG)?, Load::FibDaddrType)
            }
            "bitwise" => self.bitwise(data),
            "cmp" => self.compare(data),
            "range" => self.range(data),
            "lookup" => self.lookup(data),
            "immediate" => self.immediate(data),
            "nat" => self.nat(data),
            "masq" => {
                let fully_random = match data.be32(NFTA_MASQ_FLAGS) {
                    None | Some(0) => false,
                    Some(NF_NAT_RANGE_PROTO_RANDOM_FULLY) => true,
                    Some(_) => return None,
                };
                self.push(Statement::Masquerade { fully_random })
            }
            "notrack" => self.push(Statement::Notrack),
            "counter" => self.push(Statement::Counter),
            "reject" => self.reject(data),
            _ => None,
        }
    }

    fn load(&mut self, register: u32, load: Load) -> Option<()> {
        let field = Field::loaded_by(load)?;
        self.registers
            .insert(place(register)?, Loaded::Field(field));
        Some(())
    }

    fn bitwise(&mut self, data: &Attributes<'_>) -> Option<()> {
        let source = place(data.be32(NFTA_BITWISE_SREG)?)?;
        let destination = place(data.be32(NFTA_BITWISE_DREG)?)?;
        let mask = data_value(data.get(NFTA_BITWISE_MASK)?).ok()?;
        let xor = data_value(data.get(NFTA_BITWISE_XOR)?).ok()?;
        let plain = data.be32(NFTA_BITWISE_OP).unwrap_or_default() == 0;
        let Loaded::Field(field) = *self.registers.get(&source)? else {
            return None;
        };
        (plain && xor.iter().all(|byte| *byte == 0)).then_some(())?;
        let masked = Loaded::Masked(field, mask);
        self.registers.insert(destination, masked);
        Some(())
    }

    fn compare(&mut self, data: &Attributes<'_>) -> Option<()> {
        let source = place(data.be32(NFTA_CMP_SREG)?)?;
        let operator = data.be32(NFTA_CMP_OP)?;
        let value = data_value(data.get(NFTA_CMP_DATA)?).ok()?;
        let (field, operator, right) = match self.registers.get(&source)? {
            Loaded::Field(field) => {
                let right = Right::Value(comparable(field.kind(), &value)?);
                (*field, equality(operator)?, right)
            }
            Loaded::Masked(field, mask) => match field.kind() {
                kind if kind.is_bits() => {
                    value.iter().all(|byte| *byte == 0).then_some(())?;
                    let right = Right::Value(bytes::value(kind, mask)?);
                    (*field, equality(operator)?.opposite(), right)
                }
                kind => {
                    let right = Right::Network(network(kind, &value, mask)?);
                    (*field, equality(operator)?, right)
                }
            },
            Loaded::Data(_) | Loaded::Mapped { .. } => return None,
        };
        self.push(Statement::compare(field, operator, right))
    }

    fn range(&mut self, data: &Attributes<'_>) -> Option<()> {
        let source = place(data.be32(NFTA_RANGE_SREG)?)?;
        let operator = equality(data.be32(NFTA_RANGE_OP)?)?;
        let Loaded::Field(field) = *self.registers.get(&source)? else {
            return None;
        };
        let end = |kind| {
            let value = data_value(data.get(kind)?).ok()?;
            bytes::value(field.kind(), &value)
        };
        let right = Right::Range(end(NFTA_RANGE_FROM_DATA)?, end(NFTA_RANGE_TO_DATA)?);
        self.push(Statement::compare(field, operator, right))
    }

    fn lookup(&mut self, data: &Attributes<'_>) -> Option<()> {
        let name = text(data.get(NFTA_LOOKUP_SET)?);
        let source = place(data.be32(NFTA_LOOKUP_SREG)?)?;
        let flags = data.be32(NFTA_LOOKUP_FLAGS).unwrap_or_default();
        let negated = flags & NFT_LOOKUP_F_INV != 0;
        if let Some(set) = self.anonymous.get(&name) {
            return self.among(source, set, negated);
        }
        let key = self.key(source, &self.named.get(&name)?.key)?;
        match data.be32(NFTA_LOOKUP_DREG) {
            None => self.push(Statement::Lookup {
                key,
                set: name,
                negated,
            }),
            Some(0) => self.push(Statement::Vmap { key, map: name }),
            Some(register) => {
                let mapped = Loaded::Mapped { key, map: name };
                self.registers.insert(place(register)?, mapped);
                Some(())
            }
        }
    }

    /// A comparison with an anonymous set of single values.
    fn among(&mut self, source: u32, set: &Set, negated: bool) -> Option<()> {
        let key = self.key(source, &set.key)?;
        let ([field], None) = (key.as_slice(), &set.data) else {
            return None;
        };
        let values = set
            .elements
            .keys()
            .map(|Key(parts)| match parts.as_slice() {
                [Part::One(value)] => Some(value.clone()),
                _ => None,
            });
        let right = Right::AnyOf(values.collect::<Option<_>>()?);
        let operator = if negated { Operator::Ne } else { Operator::Eq };
        self.push(Statement::compare(*field, operator, right))
    }

    fn immediate(&mut self, data: &Attributes<'_>) -> Option<()> {
        let register = data.be32(NFTA_IMMEDIATE_DREG)?;
        let value = data.get(NFTA_IMMEDIATE_DATA)?;
        if register == 0 {
            let verdict: Verdict = set::verdict(value)?;
            return self.push(Statement::Verdict(verdict));
        }
        let value = data_value(value).ok()?;
        self.registers.insert(place(register)?, Loaded::Data(value));
        Some(())
    }

    fn set_priority(&mut self, data: &Attributes<'_>) -> Option<()> {
        (data.be32(NFTA_META_KEY)? == META_PRIORITY).then_some(())?;
        let source = place(data.be32(NFTA_META_SREG)?)?;
        let class = match self.registers.get(&source)? {
            Loaded::Data(value) => {
                Class::Literal(u32::from_ne_bytes(value.as_slice().try_into().ok()?))
            }
            Loaded::Mapped { key, map } => Class::Map {
                key: key.clone(),
                map: map.clone(),
            },
            Loaded::Field(_) | Loaded::Masked(..) => return None,
        };
        self.push(Statement::SetPriority(class))
    }

    fn set_label(&mut self, data: &Attributes<'_>) -> Option<()> {
        (data.be32(NFTA_CT_KEY)? == CT_LABELS).then_some(())?;
        let source = place(data.be32(NFTA_CT_SREG)?)?;
        let Loaded::Data(value) = self.registers.get(&source)? else {
            return None;
        };
        let Value::CtLabel(bit) = bytes::value(Type::CtLabel, value)? else {
            return None;
        };
        self.push(Statement::SetLabel(bit))
    }

    fn dynamic(&mut self, data: &Attributes<'_>) -> Option<()> {
        let set = text(data.get(NFTA_DYNSET_SET_NAME)?);
        let number = usize::try_from(data.be32(NFTA_DYNSET_OP)?).ok()?;
        let source = place(data.be32(NFTA_DYNSET_SREG_KEY)?)?;
        let key = self.key(source, &self.named.get(&set)?.key)?;
        let timeout = data.be64(NFTA_DYNSET_TIMEOUT).filter(|time| *time != 0);
        let data = match data.be32(NFTA_DYNSET_SREG_DATA) {
            None => None,
            Some(register) => match *self.registers.get(&place(register)?)? {
                Loaded::Field(field) => Some(field),
                Loaded::Mapped { .. } | Loaded::Data(_) | Loaded::Masked(..) => return None,
            },
        };
        self.push(Statement::Dynamic {
            operation: *Operation::ALL.get(number)?,
            set,
            key,
            timeout: timeout.map(Duration::from_millis),
            data,
        })
    }

    fn nat(&mut self, data: &Attributes<'_>) -> Option<()> {
        let (family, kind) = match data.be32(NFTA_NAT_FAMILY)? {
            NFPROTO_IPV4 => (NatFamily::Ip, Type::Ipv4Addr),
            NFPROTO_IPV6 => (NatFamily::Ip6, Type::Ipv6Addr),
            _ => return None,
        };
        let specified = NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED;
        let flags = data.be32(NFTA_NAT_FLAGS).unwrap_or_default();
        let plain = data.be32(NFTA_NAT_TYPE)? == NFT_NAT_DNAT && flags & !specified == 0;
        plain.then_some(())?;
        let address = place(data.be32(NFTA_NAT_REG_ADDR_MIN)?)?;
        let port = match data.be32(NFTA_NAT_REG_PROTO_MIN) {
            None => None,
            Some(register) => Some(place(register)?),
        };
        let to = match self.registers.get(&address)? {
            Loaded::Mapped { key, map } => {
                let behind = address + u32::try_from(kind.registers()).ok()?;
                (port == Some(behind)).then(|| NatTarget::Map {
                    key: key.clone(),
                    map: map.clone(),
                })?
            }
            Loaded::Data(value) => NatTarget::Literal {
                address: match bytes::value(kind, value)? {
                    Value::Ipv4(address) => address.into(),
                    Value::Ipv6(address) => address.into(),
                    _ => return None,
                },
                port: match port {
                    None => None,
                    Some(register) => Some(self.port(register)?),
                },
            },
            Loaded::Field(_) | Loaded::Masked(..) => return None,
        };
        self.push(Statement::Dnat { family, to })
    }

    fn port(&self, register: u32) -> Option<u16> {
        match self.registers.get(&register)? {
            Loaded::Data(value) => Some(u16::from_be_bytes(value.as_slice().try_into().ok()?)),
            _ => None,
        }
    }

    fn reject(&mut self, data: &Attributes<'_>) -> Option<()> {
        let kind = data.be32(NFTA_REJECT_TYPE)?;
        let code = match data.get(NFTA_REJECT_ICMP_CODE) {
            None => 0,
            Some([code]) => *code,
            Some(_) => return None,
        };
        let known = Reject::ALL.iter();
        let mut known = known.filter(|reject| reject.numbers() == (kind, code));
        self.push(Statement::Reject(*known.next()?))
    }

    /// The fields that stand in the registers from `source` on as a key of these types.
    fn key(&self, source: u32, types: &[Type]) -> Option<Vec<Field>> {
        let mut at = source;
        let mut key = Vec::new();
        for kind in types {
            let Loaded::Field(field) = *self.registers.get(&at)? else {
                return None;
            };
            (field.kind() == *kind).then_some(())?;
            key.push(field);
            at += u32::try_from(kind.registers()).ok()?;
        }
        (!key.is_empty()).then_some(key)
    }

    /// Adds a statement, in exchange for the comparisons in front of it that it presumes.
    fn push(&mut self, statement: Statement) -> Option<()> {
        let statement = self.with_transport(statement);
        let needs = self.presumed.needs(&statement);
        let kept = self.statements.len().checked_sub(needs.len())?;
        let in_front = self.statements.split_off(kept);
        (in_front == needs).then_some(())?;
        self.statements.push(statement);
        Some(())
    }

    /// Names ports after the transport protocol that is known: by a comparison directly in front of
    /// the statement, or before an earlier one.
    fn with_transport(&self, mut statement: Statement) -> Statement {
        let in_front = self
            .statements
            .iter()
            .rev()
            .map_while(Statement::as_presumption);
        let in_front = in_front.take(2).find_map(|(_, transport)| transport);
        let protocol = in_front.or(self.presumed.transport);
        for field in statement.fields_mut() {
            *field = field.of_transport(protocol);
        }
        statement
    }
}

/// The place of a register in units of four bytes.
fn place(register: u32) -> Option<u32> {
    match register {
        1..=4 => Some((register - 1) * 4),
        8..=23 => Some(register - 8),
        _ => None,
    }
}

fn equality(operator: u32) -> Option<Operator> {
    match operator {
        OP_EQ => Some(Operator::Eq),
        OP_NEQ => Some(Operator::Ne),
        _ => None,
    }
}

impl Operator {
    fn opposite(self) -> Self {
        match self {
            Self::Eq => Self::Ne,
            Self::Ne => Self::Eq,
        }
    }
}

/// The value of a comparison: bits are never compared as a whole, interface names may be cut.
fn comparable(kind: Type, value: &[u8]) -> Option<Value> {
    match kind {
        kind if kind.is_bits() => None,
        Type::Ifname if value.len() < kind.len() => {
            let start = std::str::from_utf8(value).ok()?;
            Some(Value::Ifname(format!("{start}*")))
        }
        kind => bytes::value(kind, value),
    }
}

fn network(kind: Type, value: &[u8], mask: &[u8]) -> Option<IpNet> {
    let (address, mask) = (bytes::value(kind, value)?, bytes::value(kind, mask)?);
    match (address, mask) {
        (Value::Ipv4(address), Value::Ipv4(mask)) => {
            IpNet::with_netmask(address.into(), mask.into()).ok()
        }
        (Value::Ipv6(address), Value::Ipv6(mask)) => {
            IpNet::with_netmask(address.into(), mask.into()).ok()
        }
        _ => None,
    }
}

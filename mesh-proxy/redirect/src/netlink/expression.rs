//! Rules as the kernel holds them: each match and action is a few expressions over one register.
//!
//! One form serves both ways: a rule of ours is compiled to it to be sent, a rule of the kernel's is decoded to it to be
//! compared. An expression that we never write is kept by its name and bytes, so it can be shown and equals nothing.

use std::fmt;

use super::NetlinkError;
use super::attribute::{Attributes, Reader};
use super::constant::{
    BITWISE, CMP, DATA_VALUE, DATA_VERDICT, EXPR_DATA, EXPR_NAME, IMMEDIATE, LOOKUP, META, NF_ACCEPT,
    PAYLOAD, REDIR_PROTO_MIN, REGISTER, VERDICT_CODE, VERDICT_REGISTER,
};

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// Load something about the packet.
    Meta { key: u32 },
    /// Load bytes of the packet: from which header, where, how many.
    Payload { base: u32, offset: u32, length: u32 },
    /// Keep these bits of what was loaded.
    Mask(Vec<u8>),
    /// Go on if what was loaded is this, or is not.
    Compare { equal: bool, value: Vec<u8> },
    /// Go on if what was loaded is in the set, or is not.
    Lookup { set: String, inverted: bool },
    /// Load a value.
    Immediate(Vec<u8>),
    /// Redirect to the port that was loaded.
    Redirect,
    /// Accept.
    Accept,
    /// Do not track.
    NoTrack,
    /// What is none of ours.
    Foreign { name: String, data: Vec<u8> },
}

impl Expression {
    /// As an element of a rule's list.
    pub(super) fn encode(&self) -> Attributes {
        let empty = Attributes::default;
        let value = |bytes: &[u8]| empty().bytes(DATA_VALUE, bytes);
        let (name, data) = match self {
            Self::Meta { key } => ("meta", empty().number(META.register, REGISTER).number(META.key, *key)),
            Self::Payload { base, offset, length } => (
                "payload",
                empty()
                    .number(PAYLOAD.register, REGISTER)
                    .number(PAYLOAD.base, *base)
                    .number(PAYLOAD.offset, *offset)
                    .number(PAYLOAD.length, *length),
            ),
            Self::Mask(mask) => (
                "bitwise",
                empty()
                    .number(BITWISE.source, REGISTER)
                    .number(BITWISE.destination, REGISTER)
                    .number(BITWISE.length, mask.len() as u32)
                    .nest(BITWISE.mask, value(mask))
                    .nest(BITWISE.xor, value(&vec![0; mask.len()])),
            ),
            Self::Compare { equal, value: wanted } => (
                "cmp",
                empty()
                    .number(CMP.register, REGISTER)
                    .number(CMP.operator, u32::from(!equal))
                    .nest(CMP.data, value(wanted)),
            ),
            Self::Lookup { set, inverted } => (
                "lookup",
                empty()
                    .text(LOOKUP.set, set)
                    .number(LOOKUP.register, REGISTER)
                    .number(LOOKUP.flags, u32::from(*inverted)),
            ),
            Self::Immediate(bytes) => {
                ("immediate", empty().number(IMMEDIATE.register, REGISTER).nest(IMMEDIATE.data, value(bytes)))
            }
            Self::Redirect => ("redir", empty().number(REDIR_PROTO_MIN, REGISTER)),
            Self::Accept => {
                let verdict = empty().nest(DATA_VERDICT, empty().number(VERDICT_CODE, NF_ACCEPT));
                let data = empty().number(IMMEDIATE.register, VERDICT_REGISTER).nest(IMMEDIATE.data, verdict);
                ("immediate", data)
            }
            Self::NoTrack => ("notrack", empty()),
            Self::Foreign { name, data } => {
                return empty().text(EXPR_NAME, name).bytes(EXPR_DATA, data);
            }
        };
        empty().text(EXPR_NAME, name).nest(EXPR_DATA, data)
    }

    /// An element of a rule's list.
    pub(super) fn decode(element: &[u8]) -> Result<Self, NetlinkError> {
        let element = Reader::new(element);
        let (name, data) = (element.text(EXPR_NAME)?, element.nested(EXPR_DATA)?);
        let ours = match name.as_str() {
            "meta" => meta(data)?,
            "payload" => payload(data)?,
            "bitwise" => mask(data)?,
            "cmp" => compare(data)?,
            "lookup" => lookup(data)?,
            "immediate" => immediate(data)?,
            "redir" => (data.number(REDIR_PROTO_MIN)? == Some(REGISTER)).then_some(Self::Redirect),
            "notrack" => Some(Self::NoTrack),
            _ => None,
        };
        Ok(ours.unwrap_or(Self::Foreign { name, data: element.get(EXPR_DATA)?.unwrap_or_default().to_vec() }))
    }
}

type Decoded = Result<Option<Expression>, NetlinkError>;

fn meta(data: Reader<'_>) -> Decoded {
    let key = data.number(META.key)?;
    let ours = data.number(META.register)? == Some(REGISTER);
    Ok(key.filter(|_| ours).map(|key| Expression::Meta { key }))
}

fn payload(data: Reader<'_>) -> Decoded {
    if data.number(PAYLOAD.register)? != Some(REGISTER) {
        return Ok(None);
    }
    let (base, offset) = (data.number(PAYLOAD.base)?, data.number(PAYLOAD.offset)?);
    let length = data.number(PAYLOAD.length)?;
    Ok(base.zip(offset).zip(length).map(|((base, offset), length)| Expression::Payload {
        base,
        offset,
        length,
    }))
}

fn mask(data: Reader<'_>) -> Decoded {
    let registers = [data.number(BITWISE.source)?, data.number(BITWISE.destination)?];
    let mask = data.nested(BITWISE.mask)?.get(DATA_VALUE)?;
    let xor = data.nested(BITWISE.xor)?.get(DATA_VALUE)?;
    // The operator is 0 for mask and xor; older kernels do not name it.
    let plain = data.number(BITWISE.operator)?.unwrap_or(0) == 0;
    let ours =
        plain && registers == [Some(REGISTER); 2] && xor.is_some_and(|xor| xor.iter().all(|b| *b == 0));
    Ok(mask.filter(|_| ours).map(|mask| Expression::Mask(mask.to_vec())))
}

fn compare(data: Reader<'_>) -> Decoded {
    if data.number(CMP.register)? != Some(REGISTER) {
        return Ok(None);
    }
    let equal = match data.number(CMP.operator)? {
        Some(0) => true,
        Some(1) => false,
        _ => return Ok(None),
    };
    let value = data.nested(CMP.data)?.get(DATA_VALUE)?;
    Ok(value.map(|value| Expression::Compare { equal, value: value.to_vec() }))
}

fn lookup(data: Reader<'_>) -> Decoded {
    if data.number(LOOKUP.register)? != Some(REGISTER) {
        return Ok(None);
    }
    let inverted = match data.number(LOOKUP.flags)?.unwrap_or(0) {
        0 => false,
        1 => true,
        _ => return Ok(None),
    };
    Ok(Some(Expression::Lookup { set: data.text(LOOKUP.set)?, inverted }))
}

fn immediate(data: Reader<'_>) -> Decoded {
    let value = data.nested(IMMEDIATE.data)?;
    match data.number(IMMEDIATE.register)? {
        Some(REGISTER) => Ok(value.get(DATA_VALUE)?.map(|value| Expression::Immediate(value.to_vec()))),
        Some(VERDICT_REGISTER) => {
            let code = value.nested(DATA_VERDICT)?.number(VERDICT_CODE)?;
            Ok((code == Some(NF_ACCEPT)).then_some(Expression::Accept))
        }
        _ => Ok(None),
    }
}

/// In the manner of `nft --debug=netlink`, for rules that are not ours.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta { key } => write!(f, "[meta {key}]"),
            Self::Payload { base, offset, length } => write!(f, "[payload {base}+{offset}, {length} bytes]"),
            Self::Mask(mask) => write!(f, "[mask {}]", hex(mask)),
            Self::Compare { equal, value } => {
                write!(f, "[{} {}]", if *equal { "is" } else { "is not" }, hex(value))
            }
            Self::Lookup { set, inverted } => {
                write!(f, "[{} @{set}]", if *inverted { "not in" } else { "in" })
            }
            Self::Immediate(value) => write!(f, "[value {}]", hex(value)),
            Self::Redirect => f.write_str("[redirect]"),
            Self::Accept => f.write_str("[accept]"),
            Self::NoTrack => f.write_str("[notrack]"),
            Self::Foreign { name, data } if data.is_empty() => write!(f, "[{name}]"),
            Self::Foreign { name, data } => write!(f, "[{name} {}]", hex(data)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("0x"), |text, byte| text + &format!("{byte:02x}"))
}

//! What the kernel holds of our table.
//!
//! It takes several dumps, and between them others may change rules: each answer names the generation that it was read
//! from, and only a reading of one generation counts.

use super::NetlinkError;
use super::attribute::{Attributes, Reader};
use super::compile::{Key, SetType};
use super::constant::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, DATA_VALUE, ELEMENT_FLAGS, ELEMENT_KEY,
    ELEMENTS_LIST, ELEMENTS_SET, ELEMENTS_TABLE, GET_CHAIN, GET_ELEMENTS, GET_RULE, GET_SET, GET_TABLE,
    HOOK_NUMBER, HOOK_PRIORITY, INTERVAL_END, LIST_ELEMENT, RULE_CHAIN, RULE_EXPRESSIONS, RULE_TABLE,
    SET_FLAGS, SET_INTERVAL, SET_KEY_LENGTH, SET_KEY_TYPE, SET_NAME, SET_TABLE, SET_USER_DATA, TABLE_FLAGS,
    TABLE_NAME,
};
use super::expression::Expression;
use super::message::own_order;
use super::socket::{Dump, Socket};
use crate::TABLE;

/// One reading.
#[derive(Debug)]
pub(super) struct Held {
    /// Our table, if there is one.
    pub(super) table: Option<HeldTable>,
}

/// Our table.
#[derive(Debug, Default)]
pub(super) struct HeldTable {
    /// `NFT_TABLE_F_…`: 0 where it is in force.
    pub(super) flags: u32,
    pub(super) sets: Vec<HeldSet>,
    pub(super) chains: Vec<HeldChain>,
}

/// A set.
#[derive(Debug)]
pub(super) struct HeldSet {
    pub(super) name: String,
    pub(super) set_type: SetType,
    pub(super) keys: Vec<Key>,
}

/// A chain.
#[derive(Debug)]
pub(super) struct HeldChain {
    pub(super) name: String,
    pub(super) base: Base,
    pub(super) rules: Vec<Vec<Expression>>,
}

/// Where a chain stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) type_name: String,
    /// The hook's number and the priority there; a chain that only others jump to has none.
    pub(super) hook: Option<(u32, i32)>,
    pub(super) policy: Option<u32>,
}

/// Reads our table; `None` where it changed meanwhile.
pub(super) fn read(socket: &Socket) -> Result<Option<Held>, NetlinkError> {
    let mut reading = Reading { socket, generations: Vec::new() };
    let table = reading.table()?;
    reading.generations.dedup();
    Ok((reading.generations.len() <= 1).then_some(Held { table }))
}

struct Reading<'a> {
    socket: &'a Socket,
    generations: Vec<[u8; 2]>,
}

impl Reading<'_> {
    fn dump(&mut self, kind: u8, what: &str, attributes: Attributes) -> Result<Vec<Vec<u8>>, NetlinkError> {
        let Dump { objects, generations } = match self.socket.dump(kind, what, attributes) {
            // What a dump asks for went meanwhile.
            Err(NetlinkError::Refused { reason, .. }) if reason.kind() == std::io::ErrorKind::NotFound => {
                Dump { objects: Vec::new(), generations: vec![[0, 0], [0, 1]] }
            }
            other => other?,
        };
        self.generations.extend(generations);
        Ok(objects)
    }

    fn table(&mut self) -> Result<Option<HeldTable>, NetlinkError> {
        let tables = self.dump(GET_TABLE, "tables", Attributes::default())?;
        let Some(table) = first_named(&tables, TABLE_NAME, TABLE)? else { return Ok(None) };
        let flags = table.number(TABLE_FLAGS)?.unwrap_or(0);
        let (sets, chains) = (self.sets()?, self.chains()?);
        Ok(Some(HeldTable { flags, sets, chains }))
    }

    fn sets(&mut self) -> Result<Vec<HeldSet>, NetlinkError> {
        let mut sets = Vec::new();
        for set in self.dump(GET_SET, "sets", Attributes::default().text(SET_TABLE, TABLE))? {
            let set = Reader::new(&set);
            if set.text(SET_TABLE)? != TABLE {
                continue;
            }
            let name = set.text(SET_NAME)?;
            let set_type = SetType {
                key_type: set.number(SET_KEY_TYPE)?.unwrap_or(0),
                key_length: set.number(SET_KEY_LENGTH)?.unwrap_or(0),
                interval: set.number(SET_FLAGS)?.unwrap_or(0) & SET_INTERVAL != 0,
                own_order: set.get(SET_USER_DATA)?.is_some_and(|note| note == own_order()),
            };
            let keys = self.keys(&name)?;
            sets.push(HeldSet { name, set_type, keys });
        }
        Ok(sets)
    }

    fn keys(&mut self, set: &str) -> Result<Vec<Key>, NetlinkError> {
        let which = Attributes::default().text(ELEMENTS_TABLE, TABLE).text(ELEMENTS_SET, set);
        let mut keys = Vec::new();
        for part in self.dump(GET_ELEMENTS, set, which)? {
            for element in Reader::new(&part).nested(ELEMENTS_LIST)?.all(LIST_ELEMENT)? {
                let element = Reader::new(element);
                let value = element.nested(ELEMENT_KEY)?.get(DATA_VALUE)?.unwrap_or_default().to_vec();
                let end = element.number(ELEMENT_FLAGS)?.unwrap_or(0) & INTERVAL_END != 0;
                keys.push(Key { value, end });
            }
        }
        Ok(keys)
    }

    fn chains(&mut self) -> Result<Vec<HeldChain>, NetlinkError> {
        let dumped = self.dump(GET_CHAIN, "chains", Attributes::default().text(CHAIN_TABLE, TABLE))?;
        let rules = self.dump(GET_RULE, "rules", Attributes::default().text(RULE_TABLE, TABLE))?;
        let mut chains = Vec::new();
        for chain in &dumped {
            let chain = Reader::new(chain);
            if chain.text(CHAIN_TABLE)? != TABLE {
                continue;
            }
            let name = chain.text(CHAIN_NAME)?;
            let hook = chain.nested(CHAIN_HOOK)?;
            let base = Base {
                type_name: chain.text(CHAIN_TYPE)?,
                hook: hook.number(HOOK_NUMBER)?.zip(hook.number(HOOK_PRIORITY)?.map(u32::cast_signed)),
                policy: chain.number(CHAIN_POLICY)?,
            };
            let rules = rules_of(&rules, &name)?;
            chains.push(HeldChain { name, base, rules });
        }
        Ok(chains)
    }
}

fn rules_of(dumped: &[Vec<u8>], chain: &str) -> Result<Vec<Vec<Expression>>, NetlinkError> {
    let mut rules = Vec::new();
    for rule in dumped.iter().map(|bytes| Reader::new(bytes)) {
        if rule.text(RULE_TABLE)? == TABLE && rule.text(RULE_CHAIN)? == chain {
            let list = rule.nested(RULE_EXPRESSIONS)?.all(LIST_ELEMENT)?;
            rules.push(list.into_iter().map(Expression::decode).collect::<Result<_, _>>()?);
        }
    }
    Ok(rules)
}

fn first_named<'a>(
    objects: &'a [Vec<u8>],
    kind: u16,
    name: &str,
) -> Result<Option<Reader<'a>>, NetlinkError> {
    for object in objects {
        let object = Reader::new(object);
        if object.text(kind)? == name {
            return Ok(Some(object));
        }
    }
    Ok(None)
}

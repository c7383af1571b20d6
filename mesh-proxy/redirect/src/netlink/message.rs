//! Netlink messages, and the batch that makes our table (Linux, include/uapi/linux/netlink.h and nfnetlink.h).
//!
//! Every message of a batch has a name, by which an error says what was refused.

use super::attribute::Attributes;
use super::compile::{Key, hook, keys, rule, set_type};
use super::constant::{
    ACKNOWLEDGE, APPEND, BATCH_BEGIN, BATCH_END, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE,
    CHAIN_TYPE, CREATE, DELETE_TABLE, ELEMENT_FLAGS, ELEMENT_KEY, ELEMENTS_LIST, ELEMENTS_SET,
    ELEMENTS_TABLE, HOOK_NUMBER, HOOK_PRIORITY, INET, INTERVAL_END, LIST_ELEMENT, NEW_CHAIN, NEW_ELEMENTS,
    NEW_RULE, NEW_SET, NEW_TABLE, NF_ACCEPT, REQUEST, RULE_CHAIN, RULE_EXPRESSIONS, RULE_TABLE, SET_FLAGS,
    SET_ID, SET_INTERVAL, SET_KEY_LENGTH, SET_KEY_TYPE, SET_NAME, SET_TABLE, SET_USER_DATA, SUBSYSTEM,
    TABLE_FLAGS, TABLE_NAME,
};
use crate::ruleset::{Chain, Ruleset, Set};
use crate::{TABLE, netlink::constant::DATA_VALUE};

/// Elements of a set go in parts of so many: an attribute has less than 64 KiB.
const ELEMENTS_A_MESSAGE: usize = 500;
/// Where a header holds its length.
const LENGTH: std::ops::Range<usize> = 0..4;

/// One transaction.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// What each message is about; a message's number is its place here.
    objects: Vec<String>,
}

impl Batch {
    /// The batch that makes our table these rules.
    pub(super) fn replacing(ruleset: &Ruleset) -> Self {
        let mut batch = Self::begin();
        // Made if it is missing, so that the deletion finds it; deleted with all that is in it; made anew.
        batch.table(NEW_TABLE);
        batch.table(DELETE_TABLE);
        batch.table(NEW_TABLE);
        for (number, set) in (1..).zip(&ruleset.sets) {
            batch.set(number, set);
        }
        for chain in &ruleset.chains {
            batch.chain(chain);
        }
        for chain in &ruleset.chains {
            batch.rules(chain);
        }
        batch.end()
    }

    /// The batch that removes our table.
    pub(super) fn removing() -> Self {
        let mut batch = Self::begin();
        batch.table(DELETE_TABLE);
        batch.end()
    }

    /// What is sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a message is about.
    pub(super) fn object(&self, number: u32) -> &str {
        self.objects.get(number as usize).map_or("the transaction", String::as_str)
    }

    /// The message whose acknowledgement says that all was done.
    pub(super) fn last(&self) -> u32 {
        // The end of the batch is a message too, and not acknowledged by older kernels.
        self.objects.len().saturating_sub(2) as u32
    }

    fn begin() -> Self {
        let mut batch = Self { bytes: Vec::new(), objects: Vec::new() };
        batch.put(BATCH_BEGIN, REQUEST, "the transaction".to_owned(), Attributes::default());
        batch
    }

    fn end(mut self) -> Self {
        self.put(BATCH_END, REQUEST, "the transaction's end".to_owned(), Attributes::default());
        self
    }

    fn put(&mut self, kind: u16, flags: u16, object: String, attributes: Attributes) {
        let number = self.objects.len() as u32;
        self.objects.push(object);
        self.bytes.extend_from_slice(&message(kind, flags, number, attributes));
    }

    fn add(&mut self, kind: u8, flags: u16, object: String, attributes: Attributes) {
        // Every message asks for an answer: an error is answered anyway, and that of the last says that all is done.
        self.put(kind_of(kind), REQUEST | ACKNOWLEDGE | flags, object, attributes);
    }

    fn table(&mut self, kind: u8) {
        let (flags, attributes) = match kind {
            NEW_TABLE => (CREATE, Attributes::default().text(TABLE_NAME, TABLE).number(TABLE_FLAGS, 0)),
            _ => (0, Attributes::default().text(TABLE_NAME, TABLE)),
        };
        self.add(kind, flags, format!("table {TABLE}"), attributes);
    }

    fn set(&mut self, number: u32, set: &Set) {
        let set_type = set_type(&set.elements);
        let mut attributes = Attributes::default()
            .text(SET_TABLE, TABLE)
            .text(SET_NAME, set.name)
            .number(SET_FLAGS, if set_type.interval { SET_INTERVAL } else { 0 })
            .number(SET_KEY_TYPE, set_type.key_type)
            .number(SET_KEY_LENGTH, set_type.key_length)
            .number(SET_ID, number);
        if set_type.own_order {
            attributes = attributes.bytes(SET_USER_DATA, &own_order());
        }
        self.add(NEW_SET, CREATE, format!("set {}", set.name), attributes);
        for part in keys(&set.elements).chunks(ELEMENTS_A_MESSAGE) {
            let list =
                part.iter().fold(Attributes::default(), |list, key| list.nest(LIST_ELEMENT, element(key)));
            let attributes = Attributes::default()
                .text(ELEMENTS_TABLE, TABLE)
                .text(ELEMENTS_SET, set.name)
                .nest(ELEMENTS_LIST, list);
            self.add(NEW_ELEMENTS, CREATE, format!("elements of set {}", set.name), attributes);
        }
    }

    fn chain(&mut self, chain: &Chain) {
        let hook = Attributes::default()
            .number(HOOK_NUMBER, hook(chain.hook))
            // Two's complement, as the kernel reads it.
            .number(HOOK_PRIORITY, chain.priority() as u32);
        let attributes = Attributes::default()
            .text(CHAIN_TABLE, TABLE)
            .text(CHAIN_NAME, chain.name)
            .nest(CHAIN_HOOK, hook)
            .number(CHAIN_POLICY, NF_ACCEPT)
            .text(CHAIN_TYPE, chain.type_name());
        let object = format!("chain {} (type {} hook {})", chain.name, chain.type_name(), chain.hook);
        self.add(NEW_CHAIN, CREATE, object, attributes);
    }

    fn rules(&mut self, chain: &Chain) {
        for wanted in &chain.rules {
            let expressions = rule(wanted)
                .iter()
                .fold(Attributes::default(), |list, expression| list.nest(LIST_ELEMENT, expression.encode()));
            let attributes = Attributes::default()
                .text(RULE_TABLE, TABLE)
                .text(RULE_CHAIN, chain.name)
                .nest(RULE_EXPRESSIONS, expressions);
            let object = format!("rule {wanted:?} of chain {}", chain.name, wanted = wanted.to_string());
            self.add(NEW_RULE, CREATE | APPEND, object, attributes);
        }
    }
}

/// A note to `nft`, which the kernel only keeps: keys are in the machine's own byte order (libnftnl,
/// include/libnftnl/udata.h: NFTNL_UDATA_SET_KEYBYTEORDER, four bytes, BYTEORDER_HOST_ENDIAN).
pub(super) fn own_order() -> Vec<u8> {
    let mut note = vec![0, 4];
    note.extend_from_slice(&1_u32.to_ne_bytes());
    note
}

fn element(key: &Key) -> Attributes {
    let value = Attributes::default().bytes(DATA_VALUE, &key.value);
    let element = Attributes::default().nest(ELEMENT_KEY, value);
    if key.end { element.number(ELEMENT_FLAGS, INTERVAL_END) } else { element }
}

/// The type of a message to nf_tables.
pub(super) fn kind_of(kind: u8) -> u16 {
    u16::from(SUBSYSTEM) << 8 | u16::from(kind)
}

/// A message: its header, nfnetlink's header, its attributes.
pub(super) fn message(kind: u16, flags: u16, number: u32, attributes: Attributes) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH.end];
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&number.to_ne_bytes());
    // From nobody in particular: the kernel knows the socket.
    bytes.extend_from_slice(&[0; 4]);
    // A batch names the subsystem that it is for; any other message is of our family.
    let batch = kind == BATCH_BEGIN || kind == BATCH_END;
    bytes.extend_from_slice(&[if batch { 0 } else { INET }, 0, 0, if batch { SUBSYSTEM } else { 0 }]);
    bytes.extend_from_slice(&attributes.into_bytes());
    let length = (bytes.len() as u32).to_ne_bytes();
    bytes[LENGTH].copy_from_slice(&length);
    bytes
}

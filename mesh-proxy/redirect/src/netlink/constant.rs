//! The numbers of nf_tables' netlink that are used here (Linux, include/uapi/linux/netfilter/nf_tables.h and its
//! neighbours), under names of ours.

/// `NFPROTO_INET`: our table is of both families.
pub(super) const INET: u8 = 1;
/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u8 = 10;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;

/// `NFT_MSG_…`
pub(super) const NEW_TABLE: u8 = 0;
pub(super) const GET_TABLE: u8 = 1;
pub(super) const DELETE_TABLE: u8 = 2;
pub(super) const NEW_CHAIN: u8 = 3;
pub(super) const GET_CHAIN: u8 = 4;
pub(super) const NEW_RULE: u8 = 6;
pub(super) const GET_RULE: u8 = 7;
pub(super) const NEW_SET: u8 = 9;
pub(super) const GET_SET: u8 = 10;
pub(super) const NEW_ELEMENTS: u8 = 12;
pub(super) const GET_ELEMENTS: u8 = 13;

/// `NLM_F_…` and `NLMSG_…`
pub(super) const REQUEST: u16 = 0x01;
pub(super) const ACKNOWLEDGE: u16 = 0x04;
pub(super) const DUMP_INTERRUPTED: u16 = 0x10;
pub(super) const DUMP: u16 = 0x300;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;
pub(super) const CAPPED: u16 = 0x100;
pub(super) const WITH_ATTRIBUTES: u16 = 0x200;
pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`.
pub(super) const ERROR_TEXT: u16 = 1;

/// `NFTA_TABLE_…`
pub(super) const TABLE_NAME: u16 = 1;
pub(super) const TABLE_FLAGS: u16 = 2;

/// `NFTA_CHAIN_…`, `NFTA_HOOK_…`
pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_NUMBER: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;
/// `NF_ACCEPT`: as a policy and as a verdict.
pub(super) const NF_ACCEPT: u32 = 1;

/// `NFTA_RULE_…`, `NFTA_LIST_ELEM`, `NFTA_EXPR_…`
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const LIST_ELEMENT: u16 = 1;
pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;

/// `NFTA_SET_…`, `NFT_SET_INTERVAL`
pub(super) const SET_TABLE: u16 = 1;
pub(super) const SET_NAME: u16 = 2;
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_KEY_TYPE: u16 = 4;
pub(super) const SET_KEY_LENGTH: u16 = 5;
pub(super) const SET_ID: u16 = 10;
pub(super) const SET_USER_DATA: u16 = 13;
pub(super) const SET_INTERVAL: u32 = 4;
/// `NFTA_SET_ELEM_LIST_…`, `NFTA_SET_ELEM_…`, `NFT_SET_ELEM_INTERVAL_END`
pub(super) const ELEMENTS_TABLE: u16 = 1;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS_LIST: u16 = 3;
pub(super) const ELEMENT_KEY: u16 = 1;
pub(super) const ELEMENT_FLAGS: u16 = 3;
pub(super) const INTERVAL_END: u32 = 1;

/// `NFT_REG_1` for values, `NFT_REG_VERDICT` for verdicts.
pub(super) const REGISTER: u32 = 1;
pub(super) const VERDICT_REGISTER: u32 = 0;
/// `NFTA_DATA_…`, `NFTA_VERDICT_CODE`
pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
pub(super) const VERDICT_CODE: u16 = 1;
/// `NFTA_REDIR_REG_PROTO_MIN`
pub(super) const REDIR_PROTO_MIN: u16 = 1;

/// `NFTA_META_…`
pub(super) struct Meta {
    pub(super) register: u16,
    pub(super) key: u16,
}
pub(super) const META: Meta = Meta { register: 1, key: 2 };

/// `NFT_META_…`
pub(super) const META_IIFNAME: u32 = 6;
pub(super) const META_OIFNAME: u32 = 7;
pub(super) const META_SKUID: u32 = 10;
pub(super) const META_SKGID: u32 = 11;
pub(super) const META_NFPROTO: u32 = 15;
pub(super) const META_L4PROTO: u32 = 16;

/// `NFTA_PAYLOAD_…`
pub(super) struct Payload {
    pub(super) register: u16,
    pub(super) base: u16,
    pub(super) offset: u16,
    pub(super) length: u16,
}
pub(super) const PAYLOAD: Payload = Payload { register: 1, base: 2, offset: 3, length: 4 };

/// `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`
pub(super) const NETWORK_HEADER: u32 = 1;
pub(super) const TRANSPORT_HEADER: u32 = 2;

/// `NFTA_BITWISE_…`
pub(super) struct Bitwise {
    pub(super) source: u16,
    pub(super) destination: u16,
    pub(super) length: u16,
    pub(super) mask: u16,
    pub(super) xor: u16,
    pub(super) operator: u16,
}
pub(super) const BITWISE: Bitwise =
    Bitwise { source: 1, destination: 2, length: 3, mask: 4, xor: 5, operator: 6 };

/// `NFTA_CMP_…`
pub(super) struct Cmp {
    pub(super) register: u16,
    pub(super) operator: u16,
    pub(super) data: u16,
}
pub(super) const CMP: Cmp = Cmp { register: 1, operator: 2, data: 3 };

/// `NFTA_LOOKUP_…`
pub(super) struct Lookup {
    pub(super) set: u16,
    pub(super) register: u16,
    pub(super) flags: u16,
}
pub(super) const LOOKUP: Lookup = Lookup { set: 1, register: 2, flags: 5 };

/// `NFTA_IMMEDIATE_…`
pub(super) struct Immediate {
    pub(super) register: u16,
    pub(super) data: u16,
}
pub(super) const IMMEDIATE: Immediate = Immediate { register: 1, data: 2 };

//! The rules that lead a workload's traffic through its proxy, in one network namespace.
//!
//! [`RedirectSettings`] say what is captured, [`RedirectSettings::ruleset`] makes one nf_tables table of them, and the
//! `Display` of a [`Ruleset`] is the text that `nft` reads and people understand. That much is pure and has no
//! dependency that does IO, for who only writes the settings down. With the feature `apply`, [`netlink`] brings the
//! table into the kernel, compares it and takes it away, without `nft` and without iptables. The program is the feature
//! `program`. What the proxy does with what it is given is not here.

mod cidr;
#[cfg(feature = "apply")]
pub mod netlink;
mod plan;
mod ruleset;
pub mod settings;
mod text;
#[cfg(feature = "apply")]
pub mod verify;

pub use cidr::{Cidr, InvalidCidr};
pub use ruleset::{
    Action, Addresses, Chain, ChainKind, Elements, Family, Hook, Interface, Match, Ports, Protocol, Rule,
    Ruleset, Set, Test,
};
pub use settings::{Families, RedirectSettings, SettingsError};

/// The annotation of a pod with its [`RedirectSettings`], as JSON: [`RedirectSettings::annotation`].
pub const ANNOTATION: &str = "weft.dev/redirect";

/// The name of the init container that applies the rules where no CNI plugin does.
pub const INIT_CONTAINER: &str = "weft-redirect";

/// The name of the init container that looks, without any privilege, whether the rules of the CNI plugin are there.
pub const VERIFY_CONTAINER: &str = "weft-redirect-verify";

/// The table's name, in the family `inet`. Everything of ours is in it, nothing of others.
pub const TABLE: &str = "weft";

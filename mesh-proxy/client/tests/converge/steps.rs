//! What can happen, and how often.

use proptest::prelude::*;

pub(super) const SERVICES: usize = 4;
pub(super) const WORKLOADS: usize = 6;
/// Addresses that somebody may have or ask for.
pub(super) const ADDRESSES: usize = 4;
/// What has this weight is damaged on its way.
pub(super) const POISON: u32 = 3;

#[derive(Debug, Clone)]
pub(super) enum Step {
    SetWorkload {
        n: usize,
        services: Vec<usize>,
        weight: u32,
    },
    RemoveWorkload(usize),
    Declare(usize),
    Undeclare(usize),
    Bundle(u8),
    Subscribe(usize),
    Unsubscribe(usize),
    WantAddress(usize),
    ForgetAddress(usize),
    ToServer(usize),
    ToClient(usize),
    /// The client refuses the next response as a whole, without detail.
    RefuseWhole,
    Reconnect {
        restarted: bool,
    },
    /// Into a process that kept nothing, and does not hear the silent registry.
    RestartUnheard,
    /// The silent registry lists.
    Listed,
}

/// Steps that lose and repeat nothing.
pub(super) fn calm_step() -> impl Strategy<Value = Step> {
    let workload = (0..WORKLOADS, prop::collection::vec(0..SERVICES, 1..3), 0..POISON);
    prop_oneof![
        6 => workload.prop_map(|(n, services, weight)| Step::SetWorkload { n, services, weight }),
        2 => (0..WORKLOADS).prop_map(Step::RemoveWorkload),
        1 => (0..SERVICES).prop_map(Step::Declare),
        1 => (0..SERVICES).prop_map(Step::Undeclare),
        1 => (0..3_u8).prop_map(Step::Bundle),
        3 => (0..SERVICES).prop_map(Step::Subscribe),
        3 => (0..ADDRESSES).prop_map(Step::WantAddress),
        5 => (1..4_usize).prop_map(Step::ToServer),
        5 => (1..4_usize).prop_map(Step::ToClient),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => calm_step(),
        3 => (0..SERVICES).prop_map(Step::Unsubscribe),
        2 => (0..ADDRESSES).prop_map(Step::ForgetAddress),
        1 => (0..WORKLOADS).prop_map(|n| Step::SetWorkload { n, services: vec![0, 1], weight: POISON }),
        1 => Just(Step::RefuseWhole),
        1 => any::<bool>().prop_map(|restarted| Step::Reconnect { restarted }),
        1 => Just(Step::RestartUnheard),
        1 => Just(Step::Listed),
    ]
}

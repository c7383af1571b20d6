//! What a sidecar is called in a job: the names by which the injector, the registry and attestation know each other's work.

/// The task of the proxy. A workload identity token proves an identity of the mesh only when it is this task's.
pub const SIDECAR_TASK: &str = "weft-proxy";
/// The label of the group's port that leads to the proxy's tunnel.
pub const TUNNEL_PORT: &str = "weft_tunnel";
/// The port of the tunnel inside an allocation's own network namespace.
pub const TUNNEL_INSIDE: u16 = 15008;
/// The name of the workload identity whose token attests the proxy, and its audience.
pub const IDENTITY_NAME: &str = "weft";
/// The task that puts the rules of the capture into the allocation's network. A group that has it is captured.
pub const REDIRECT_TASK: &str = "weft-redirect";

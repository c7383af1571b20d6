//! Registry adapter for Kubernetes: one cluster is one registry.
//!
//! `watch.rs` follows Services, EndpointSlices, Pods and Nodes (and Namespaces, where a selector needs them) and owns the
//! tasks; `api.rs` reads lists and watches; `object.rs` holds what is used of the objects; `convert.rs` says what each means
//! and `view.rs` what follows for the mesh. The last three are pure. It writes nothing into the cluster.
//!
//! What objects lead to:
//!
//! | Object | Outcome |
//! |---|---|
//! | Service | a service with its TCP ports and its cluster IPs; a headless one has no address |
//! | port of a Service | its protocol is the annotation's, else `appProtocol`, else the start of its name (`grpc-admin`), else found out |
//! | `internalTrafficPolicy: Local`; topology mode `Auto`; `trafficDistribution` | its callers keep to their node; prefer their zone; prefer as it says. In this order; unknown words have no effect and are warnings |
//! | IP of a load balancer, not of `ipMode: Proxy` | an address of the service; one of several Services is none's, with a warning on each. Host names are nobody's address |
//! | Service of type ExternalName | left out, and its slices are not used; a warning |
//! | Service `default/kubernetes` | left out: each cluster has its own |
//! | Service with two ports of one number or name | the first counts; a warning. UDP and SCTP ports are not the mesh's |
//! | Service with a wrong annotation | its last good state stays; without one its instances count and its own ports and addresses don't |
//! | endpoint that is a pod | one instance `pod/UID` of all services that list it, with the ports of each, whatever the number of slices |
//! | endpoint of a pod that is not there, or not yet | no instance: it would be one without identity and proxy |
//! | endpoint that names a pod by another uid than the one that has the address | as above: who has the address now is another instance, and neither gets the other's identity |
//! | endpoint without a pod (written by hand, or of another namespace's pod) | an instance of its service and address, without identity and proxy, whoever has the address |
//! | endpoint without or with a wrong address, port out of range | left out; an error on the slice |
//! | slice of a service that is not there | not used; a warning where it was written by hand |
//! | slice whose addresses are host names | left out; a warning |
//! | slices of IPv4 and IPv6 of one pod | one instance with both addresses, in the pod's order |
//! | conditions | ready: healthy; terminating and serving: draining; else unhealthy. In several services the worst counts |
//! | pod in no service | an instance where it has a proxy (annotation `weft.dev/tunnel`), else none |
//! | pod that ends | draining at once; gone with its object. Succeeded and failed ones are none |
//! | pod without address | none until it has one |
//! | pod on its node's network | without identity and proxy, whatever its annotation says; a warning |
//! | pod with a wrong annotation | its last good state stays; none where there never was one; an error |
//! | unknown annotation of ours, or one that means nothing on that kind of object | no effect; a warning |
//! | node with `topology.kubernetes.io/region` and `zone` | the place of its pods; without a region it is unknown |
//! | node of a pod or another endpoint | `kubernetes/REGISTRY/NODE`, for services that prefer or demand their callers' own |
//! | namespaces | `kube-system`, `kube-public` and `kube-node-lease` are left out unless the settings say otherwise |
//!
//! What the server leads to:
//!
//! | Server | Outcome |
//! |---|---|
//! | down, busy (429, waited for as it asks), answers nothing or nonsense | stale; what is known stays |
//! | refuses Services or EndpointSlices, or has no such kind | denied or not found; what is known stays |
//! | refuses Pods | the rest goes on, with an error: new pods have no identity and no proxy |
//! | refuses Nodes | the rest goes on, with an error: places are unknown |
//! | a watch's version is too old (410), or of a former life of the server | everything is read anew; what is not there is doubted as any listing |
//! | ends watches | taken up where they ended |
//! | errors, breaks off, or is slow to take a watch up again | everything is read anew: its data may have been lost or restored |
//! | does not stream lists | they are read in pages |
//!
//! Not read, and why:
//!
//! | Field | Why |
//! |---|---|
//! | `hints.forZones`, `hints.forNodes` of slices | each proxy knows zones and nodes of all instances and its own, and so finds the same; and hints say nothing of instances elsewhere |
//! | `externalTrafficPolicy`, node ports, `sessionAffinity` | they are for what comes in by nodes and balancers, which is kube-proxy's |
//! | `externalIPs` | whoever may write a Service could take over any address, also for other clusters (CVE-2020-8554) |
//! | host names of a StatefulSet's pods | each is called by its address |

mod api;
pub mod attest;
mod connect;
mod convert;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod inline;
mod object;
mod reading;
mod settings;
mod subject;
#[cfg(feature = "testkit")]
pub mod testkit;
mod view;
mod watch;

pub use connect::connect;
pub use error::KubernetesError;
pub use inline::InlineKubeconfig;
pub use reading::{ServiceReading, read_service};
pub use settings::{InvalidSettings, KubernetesSettings, NamespaceSettings};
pub use subject::{Subject, SubjectKind};
pub use watch::KubernetesRegistry;

//! The chart, the manifests that are made of it, and what the mesh's own programs say of what both write.
//!
//! Templates are judged by Helm, objects by a real API server, settings by the programs that read them.
//! `WEFT_REFRESH_GOLDEN=1 cargo test -p weft-integration --test kubernetes_chart` writes `k8s/manifests` anew.

mod cluster;
mod settings;
mod templates;
mod tools;

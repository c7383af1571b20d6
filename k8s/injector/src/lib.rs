//! From a pod to the patch that puts it into the mesh.

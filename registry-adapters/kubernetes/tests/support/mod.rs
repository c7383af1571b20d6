//! What the tests of the adapter share: a fake API server that can misbehave, and the adapter under supervision with a
//! catalog behind it, as in the control plane.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod fake;
pub(crate) mod objects;
pub(crate) mod real;
pub(crate) mod watching;

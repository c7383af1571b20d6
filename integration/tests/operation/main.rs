//! Bad input and daily operation, over real processes: what is wrong is named, and what was good goes on serving.
//!
//! Each test has a mesh of its own. Most keep a load running while something is broken, and count what failed.

mod corrupt;
mod disk;
mod graceful;
mod http2;
mod listings;
mod registry;
mod rotate;
mod settings;
mod slow;
mod tokens;
mod volume;
mod world;

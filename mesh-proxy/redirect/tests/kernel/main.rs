//! The rules on the real kernel: who is captured, who is not, and what the table is afterwards.
//!
//! Needs root; says so where it is not, and is skipped.

mod capture;
mod program;
mod table;
mod world;

/// A world, or the test is over.
macro_rules! a_world {
    ($test:literal) => {
        match crate::world::World::new($test)? {
            Some(world) => world,
            None => return Ok(()),
        }
    };
}
pub(crate) use a_world;

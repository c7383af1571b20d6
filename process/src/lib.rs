//! What every program of ours does the same way around its own work.
//!
//! [`settings`] puts a program's settings together and says what is wrong with them, [`notify`] speaks to systemd,
//! [`durable`] replaces a file so that a crash leaves the old one or the new one, [`counters`] count. Nothing here knows a program: names of
//! settings, directories and files, and what an error means to the user, stay with each of them.

pub mod counters;
pub mod durable;
pub mod notify;
pub mod settings;

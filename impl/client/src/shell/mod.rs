//! The shell: what surrounds the machine where there is a network. It moves bytes, keeps the time, and brings answers.

pub(crate) mod dial;
pub(crate) mod driver;
pub(crate) mod hub;
mod line;
mod link;
pub mod tls;

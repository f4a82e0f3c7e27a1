//! Skeleton.

pub mod config;
pub mod process;

pub use config::{Config, MemberConfig};
pub use process::{RunError, run};

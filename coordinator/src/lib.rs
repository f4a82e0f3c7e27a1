//! A Muster coordinator: replica, store, ledger, peers, leader duties, bus and API.

pub mod config;
pub mod disk;
pub mod process;
pub mod replay;
pub mod store;

pub use config::{Config, MemberConfig};
pub use process::{RunError, run};

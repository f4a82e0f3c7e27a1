//! `data.annotate`: a stage of one task that waits, durably and without a timeout, for people who label
//! items.
//!
//! The attempt serves a form and a small API itself (`server`). One thread takes the labels (`label_writer`):
//! each batch is a content-addressed artifact (`batch_chain`), and the log has the hash of the newest, so
//! that the cluster's state does not grow with the labels. An attempt that is killed and started again reads
//! the newest batch, and continues. The results are in `report`.
//!
//! **Boundary**: `label_store`, `agreement` and `page` are pure; only the label writer speaks with the agent,
//! and only the server with people. The crate imports `protocol`, `host`, `data` and `attempt`.

mod agreement;
mod batch_chain;
mod error;
mod import;
mod item;
mod label_store;
mod label_writer;
mod log_check;
mod page;
mod params;
mod refusal;
mod report;
mod server;
mod stage;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use params::AnnotateParams;
pub use stage::run;

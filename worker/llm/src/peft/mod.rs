//! Which weights of a model are trained, and which are added for that: one trait, one file per method.
//!
//! A method decides for each weight of the base whether it is trained and in which precision it is stored,
//! names the weights that it adds, and attaches them to the model. Trained weights have the names that PEFT
//! gives them in `adapter_model.safetensors`, or map to them one to one ([`adapter`]). No method knows of
//! optimizers or data; training sees one flat vector of the trained parameters, in order of name.
//!
//! - [`method`]: the trait. [`config`]: the methods with their parameters. [`build()`]: a base becomes a
//!   model that is trained.
//! - [`full`]: every weight. [`lora`]: low-rank additions, and merging them. [`qlora`]: LoRA over a quantised
//!   base.
//! - [`prefix`], [`prompt`]: learnt keys and values, or learnt embeddings, before each sequence.
//! - [`added`]: what new weights start from. [`trainable`]: checks that exactly the right weights are
//!   trained.
//! - [`adapter`]: the files that PEFT reads and writes.

pub mod adapter;
pub mod added;
mod build;
pub mod config;
mod error;
pub mod full;
pub mod lora;
pub mod method;
pub mod prefix;
pub mod prompt;
pub mod qlora;
pub mod trainable;

#[cfg(test)]
mod tests;

pub use adapter::Adapter;
pub use added::{AddedWeight, WeightInit};
pub use build::build;
pub use config::MethodConfig;
pub use error::Error;
pub use lora::merge;
pub use method::Method;
pub use trainable::{BaseFootprint, base_footprint, check_trainable};

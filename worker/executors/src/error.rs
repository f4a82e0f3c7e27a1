//! The errors that end an executor.

use crate::agent::AgentError;
use crate::data::DataError;
use crate::params;
use crate::place::ModelError;
use crate::train::TrainError;
use muster_attempt::{AttemptError, ClientError, artifacts};
use muster_collective as collective;
use muster_collective::loader;
use std::io;

/// An executor could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The parameters are wrong.
    #[error(transparent)]
    Params(#[from] params::Error),
    /// The agent or the cluster refuses.
    #[error(transparent)]
    Attempt(#[from] AttemptError),
    /// The agent can't be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An artifact can't be kept or read.
    #[error(transparent)]
    Artifact(#[from] artifacts::Error),
    /// The gang broke.
    #[error(transparent)]
    Gang(#[from] collective::Error),
    /// Samples can't be fetched or sent.
    #[error(transparent)]
    Loader(#[from] loader::Error),
    /// A loader can't serve.
    #[error("serve samples: listen on {bind}: {source}; set `bind` to a free address of this worker")]
    Listen {
        /// The address.
        bind: String,
        /// What the system said.
        source: io::Error,
    },
    /// A data stage can't go on.
    #[error(transparent)]
    DataStage(#[from] DataError),
    /// An agent's stage can't go on.
    #[error(transparent)]
    AgentStage(#[from] AgentError),
    /// A model can't be found or put together.
    #[error(transparent)]
    ModelPlace(#[from] ModelError),
    /// A training can't go on.
    #[error(transparent)]
    Training(#[from] TrainError),
    /// Preparing data failed.
    #[error(transparent)]
    Data(#[from] muster_data::Error),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] muster_llm::train::Error),
    /// A collective operation failed.
    #[error(transparent)]
    Parallel(#[from] muster_llm::parallel::Error),
    /// A round of DiLoCo failed.
    #[error(transparent)]
    Diloco(#[from] muster_llm::diloco::Error),
    /// The trained part of a model can't be made or kept.
    #[error(transparent)]
    Peft(#[from] muster_llm::peft::Error),
    /// Measuring failed.
    #[error(transparent)]
    Eval(#[from] muster_llm::eval::Error),
    /// Sampling failed.
    #[error(transparent)]
    Generate(#[from] muster_llm::generate::Error),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] muster_llm::model::Error),
    /// The compute threads did not start.
    #[error(transparent)]
    Compute(#[from] muster_host::compute::Error),
    /// Labelling can't go on.
    #[error(transparent)]
    Annotate(#[from] muster_annotate::Error),
}

/// An artifact that is gone, whichever way it was asked for.
pub fn is_absent(error: &Error) -> bool {
    let (Error::Artifact(error) | Error::Attempt(AttemptError::Artifact(error))) = error else {
        return false;
    };
    matches!(error, artifacts::Error::Absent { .. })
}

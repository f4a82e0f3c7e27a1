//! What can end an executor.

use super::params;
use muster_attempt::ClientError;
use muster_attempt::artifacts;
use muster_collective as collective;
use muster_collective::loader;
use muster_protocol::rejection::Rejection;

/// An executor could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The parameters are wrong.
    #[error(transparent)]
    Params(#[from] params::Error),
    /// The agent can't be spoken to.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// The cluster said no.
    #[error("{what}: the cluster refused: {rejection}")]
    Rejected {
        /// What was asked.
        what: String,
        /// Why not.
        rejection: Rejection,
    },
    /// The cluster answered another question.
    #[error("{what}: the cluster answered {answer}")]
    OutOfTurn {
        /// What was asked.
        what: String,
        /// The kind of answer.
        answer: &'static str,
    },
    /// An artifact can't be kept or read.
    #[error(transparent)]
    Artifact(#[from] artifacts::Error),
    /// The gang broke.
    #[error(transparent)]
    Gang(#[from] collective::Error),
    /// Samples can't be served or fetched.
    #[error(transparent)]
    Loader(#[from] loader::Error),
    /// Preparing data failed.
    #[error(transparent)]
    Data(#[from] muster_data::Error),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] muster_llm::train::Error),
    /// What several ranks do together failed.
    #[error(transparent)]
    Parallel(#[from] muster_llm::parallel::Error),
    /// A round of DiLoCo failed.
    #[error(transparent)]
    Diloco(#[from] muster_llm::diloco::Error),
    /// What is trained of a model could not be made or kept.
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
    /// Something does not fit.
    #[error("{0}")]
    Unfit(String),
}

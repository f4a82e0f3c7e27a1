//! What ends a stage of people who label, and what its user can do about it.

use super::refusal::{LABEL_BYTES_MAX, Refusal};
use muster_attempt::{AttemptError, artifacts};
use muster_protocol::ids::Digest;
use std::io;

/// The stage can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent or the cluster refuses.
    #[error(transparent)]
    Attempt(#[from] AttemptError),
    /// An artifact can't be kept or read.
    #[error(transparent)]
    Artifact(#[from] artifacts::Error),
    /// The documents of an earlier stage can't be read.
    #[error(transparent)]
    Data(#[from] muster_data::Error),
    /// The stage has more than one task.
    #[error("label in {tasks} tasks: people share one form; give the stage one task")]
    SeveralTasks {
        /// How many it has.
        tasks: u32,
    },
    /// A label of `labels` can't be chosen from.
    #[error(
        "use `labels`: {label:?} is empty, longer than {LABEL_BYTES_MAX} bytes, starts or ends with a blank, has a line break, or is given twice"
    )]
    Label {
        /// The label.
        label: String,
    },
    /// There is never a difference to decide.
    #[error(
        "adjudicate: with `per_item = 1` there is nothing to decide between; set `per_item` to 2 or more"
    )]
    NothingToAdjudicate,
    /// No items are given.
    #[error("find the items: set `items`, a file, or `items_stage`, a stage")]
    NoItems,
    /// The items are given twice.
    #[error("find the items: both `items` and `items_stage` are set; remove one")]
    TwoSourcesOfItems,
    /// A stage leaves no items.
    #[error("find the items: the outputs of stage `{stage}` name neither `items`, `labelled` nor `scan`")]
    StageWithoutItems {
        /// The stage.
        stage: String,
    },
    /// The worker's current directory means nothing to a user.
    #[error("read {path}: an absolute path is needed, since a worker has no current directory of its own")]
    RelativePath {
        /// The path in the parameter.
        path: String,
    },
    /// A file can't be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// A file is too large.
    #[error("read {path}: it has {bytes} bytes; at most {limit} are allowed")]
    FileTooLong {
        /// The file.
        path: String,
        /// Its length.
        bytes: u64,
        /// The longest that is allowed.
        limit: u64,
    },
    /// A line of a file of items can't be used.
    #[error("read the items: line {line} of {name} {reason}")]
    ItemLine {
        /// The file or artifact.
        name: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The items together can't be used.
    #[error("take the items: {0}")]
    Items(String),
    /// A line of a file of proposals can't be used.
    #[error("use the proposals: line {line} of {name} {reason}")]
    ProposalLine {
        /// The file or artifact.
        name: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A proposal is not one of the labels.
    #[error("use the proposals: {0}; `labels` must have it")]
    Proposal(Refusal),
    /// `bind` can't be parsed.
    #[error("listen: `bind` is an address and a port, as 127.0.0.1:0 or 0.0.0.0:8080, not {given:?}")]
    Bind {
        /// The parameter.
        given: String,
    },
    /// The form's port can't be had.
    #[error("listen at {address}: {source}; set `bind` to a free port of this worker")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The form can't be served.
    #[error("serve the form: {action}: {source}")]
    Serve {
        /// What failed.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The thread that serves the form is gone.
    #[error("serve the form: its thread has ended")]
    ServerEnded,
    /// Labels or items can't be written as JSON.
    #[error("write the {values}: {source}")]
    Encode {
        /// What was to be written.
        values: &'static str,
        /// The reason.
        source: serde_json::Error,
    },
    /// What an earlier attempt wrote can't be read.
    #[error("read the {values} of an earlier attempt: {source}")]
    Decode {
        /// What was to be read.
        values: String,
        /// The reason.
        source: serde_json::Error,
    },
    /// The batches of labels don't fit together.
    #[error("read the labels: {hash} has {found} labels before it, not {expected}")]
    BrokenChain {
        /// The batch.
        hash: Digest,
        /// How many it says there are.
        found: u64,
        /// How many there are.
        expected: u64,
    },
    /// The batches of labels don't end.
    #[error("read the labels: more than {limit} batches lead up to {head}")]
    LongChain {
        /// The newest batch.
        head: Digest,
        /// The most that can be.
        limit: usize,
    },
    /// Another attempt at the task has written the same record.
    #[error("record `{key}` {seq}: the log has {found} of another attempt instead")]
    Superseded {
        /// The record's key.
        key: String,
        /// Its number.
        seq: u64,
        /// The number in the log.
        found: u64,
    },
    /// A record was accepted, and is not in the log.
    #[error("record `{key}` {seq}: it is not in the log; another attempt may have taken over")]
    NotInLog {
        /// The record's key.
        key: String,
        /// Its number.
        seq: u64,
    },
}

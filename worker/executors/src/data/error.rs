//! The errors of data stages.

use std::io;
use std::path::PathBuf;

/// A data stage can't go on.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error(
        "choose among duplicates: stage `{dedup_stage}` compared {compared} documents, stage `{scan_stage}` has {documents}; \
         both must read the same stage of data.scan"
    )]
    OtherDocuments { dedup_stage: String, compared: u64, scan_stage: String, documents: u64 },
    #[error("join the shards: `pack_stage` has made none")]
    NoShards,
    #[error("join the shards: they were packed with different parameters; give all splits the same")]
    MixedShards,
    #[error(
        "pack split {rank} of {world}: stage `{stage}` made {splits} splits; this stage needs as many `tasks`"
    )]
    OtherSplits { rank: usize, world: usize, stage: String, splits: usize },
    #[error("use the parameters of the stage: {0}")]
    TooLong(String),
    #[error(
        "resume after {done} of {parts} parts: record {record} is of other parts; did `part_kib` change?"
    )]
    OtherParts { done: usize, parts: usize, record: u64 },
    #[error(
        "use the parameters of the stage: `tokenizer` = {tokenizer} and `base_tokenizer_stage` = {stage} are two \
         tokenizers: give one"
    )]
    TwoTokenizers { tokenizer: String, stage: String },
    #[error("read the tokenizer: there is no file {}", path.display())]
    NoTokenizer { path: PathBuf },
    #[error("read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("read {}: it has {bytes} bytes; at most {most} are allowed", path.display())]
    TooLarge { path: PathBuf, bytes: u64, most: u64 },
    #[error("find text: of {seen} documents in {roots:?} none is kept; see the reasons in the task's log")]
    NothingKept { seen: u64, roots: Vec<PathBuf> },
    #[error("use the parameters of the stage: `decontaminate` has name=file, not {found:?}")]
    EvalSet { found: String },
    #[error("use the parameters of the stage: `near` is words, characters or none, not {found:?}")]
    Near { found: String },
}

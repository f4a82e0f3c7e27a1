//! `data.pack`: tokenizes one split into shards, part by part; one task per split.
//!
//! Each part that is done is recorded in the log with the list of all parts so far, so a restarted attempt
//! resumes after the last one. Parts depend on the documents and the parameters alone, so the
//! shards are the same on any worker.

use super::DataError;
use crate::error::Error;
use crate::launch::compute;
use crate::model::open_tokenizer;
use crate::outputs::{DatasetRef, PackOutput, PartRef, ScanOutput, ShardRef, TokenizerOutput};
use crate::params::Params;
use muster_attempt::Attempt;
use muster_data::chat::ChatTemplate;
use muster_data::dedup::Selection;
use muster_data::documents::Scan;
use muster_data::megatron::Files;
use muster_data::pack::{PackConfig, Packed, TooLong, pack, parts};
use muster_data::shard::Shard;
use muster_data::tokenizer::Tokenizer;
use muster_protocol::ids::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The key of the records: the newest one's payload lists all parts that are done.
const PART: &str = "part";

/// The body of a record `part`.
#[derive(Debug, Serialize, Deserialize)]
struct PackProgress {
    /// Parts that are done.
    parts: u64,
    /// Of how many.
    of: u64,
    /// Tokens to train on so far.
    train_tokens: u64,
}

/// Parameters of `data.pack`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PackParams {
    /// Form of conversations: `auto`, `chatml`, `llama3` or `plain`; `auto`: what the tokenizer has special
    /// tokens for.
    pub template: String,
    /// Most tokens of a conversation; 0: any number.
    #[schemars(range(max = 16_777_216))]
    pub context: usize,
    /// What is done with a longer one: `truncate`, `drop` or `error`.
    pub too_long: String,
    /// Text that is packed into one shard, and is packed again after a kill, in KiB.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub part_kib: u64,
    /// The stage that ran `data.scan`.
    pub scan_stage: String,
    /// The stage that ran `data.tokenizer`.
    pub tokenizer_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for PackParams {
    fn default() -> PackParams {
        PackParams {
            template: "auto".to_owned(),
            context: 0,
            too_long: "error".to_owned(),
            part_kib: 64 * 1024,
            scan_stage: "scan".to_owned(),
            tokenizer_stage: "tokenizer".to_owned(),
            seed: 1,
        }
    }
}

impl Params for PackParams {}

/// Runs one task of the stage.
pub fn run(attempt: &mut Attempt, params: &PackParams) -> Result<(), Error> {
    let scans: Vec<ScanOutput> = attempt.outputs_of(&params.scan_stage)?;
    let made: TokenizerOutput = attempt.output_of(&params.tokenizer_stage)?;
    let (rank, world) = (attempt.launch.rank as usize, attempt.launch.world as usize);
    let choice: Selection = attempt.get_json(made.choice)?;
    let (Some(mine), Some(keep), true) = (scans.get(rank), choice.keep.get(rank), scans.len() == world)
    else {
        let (stage, splits) = (params.scan_stage.clone(), scans.len());
        return Err(DataError::OtherSplits { rank, world, stage, splits }.into());
    };
    let scan = Scan::from_bytes(&attempt.artifacts.get(mine.scan)?)?;
    let tokenizer = open_tokenizer(&attempt.artifacts, made.tokenizer, made.special_tokens)?;
    let config = config(params, &tokenizer)?;
    let parts = parts(&scan, keep, params.part_kib << 10)?;
    let (mut done, recorded) = resume(attempt, parts.len())?;
    let compute = compute(attempt)?;
    let mut list = attempt.put_json(&done)?;
    for (number, part) in parts.iter().enumerate().skip(done.len()) {
        let packed = pack(&scan, part, &format!("{rank:05}-{number:05}"), &config, &tokenizer, &compute)?;
        done.push(put(attempt, packed)?);
        list = attempt.put_json(&done)?;
        let body = PackProgress {
            parts: done.len() as u64,
            of: parts.len() as u64,
            train_tokens: done.iter().map(|part| part.train_tokens).sum(),
        };
        if body.parts > recorded {
            attempt.record(PART, body.parts, list, &body, true)?;
        }
        attempt.say(&format!(
            "split {rank}: part {} of {}, {} tokens to train on so far",
            body.parts, body.of, body.train_tokens
        ));
    }
    let sum = |tokens: fn(&PartRef) -> u64| done.iter().map(tokens).sum();
    let output = PackOutput {
        parts: list,
        config,
        train_tokens: sum(|part| part.train_tokens),
        held_out_tokens: sum(|part| part.held_out_tokens),
    };
    attempt.say(&format!(
        "split {rank}: {} tokens to train on, {} held out",
        output.train_tokens, output.held_out_tokens
    ));
    Ok(attempt.output(&output)?)
}

fn config(params: &PackParams, tokenizer: &Tokenizer) -> Result<PackConfig, Error> {
    let too_long: TooLong = params.too_long.parse().map_err(DataError::TooLong)?;
    let template = ChatTemplate::named(&params.template, tokenizer)?;
    Ok(PackConfig { template, context: params.context, too_long })
}

/// The parts that an earlier attempt left, and how many the log knows of.
fn resume(attempt: &mut Attempt, parts: usize) -> Result<(Vec<PartRef>, u64), Error> {
    let records = attempt.progress(attempt.task(), PART)?;
    let Some(record) = records.into_iter().find(|record| record.key == PART) else {
        return Ok((Vec::new(), 0));
    };
    match attempt.get_json::<Vec<PartRef>>(record.payload_hash) {
        Ok(done) if done.len() as u64 == record.seq && done.len() <= parts => {
            attempt.say(&format!("{} of {parts} parts were done by an earlier attempt", done.len()));
            Ok((done, record.seq))
        }
        Ok(done) => Err(DataError::OtherParts { done: done.len(), parts, record: record.seq }.into()),
        // The contents of a missing artifact can be computed again.
        Err(error) => {
            attempt.say(&format!(
                "the parts of an earlier attempt are packed again, since this one failed to {error}"
            ));
            Ok((Vec::new(), record.seq))
        }
    }
}

fn put(attempt: &Attempt, packed: Packed) -> Result<PartRef, Error> {
    let (train_tokens, held_out_tokens) = (packed.train.index().tokens, packed.held_out.index().tokens);
    let (train, held_out) = (put_shard(attempt, &packed.train)?, put_shard(attempt, &packed.held_out)?);
    Ok(PartRef { train, held_out, dropped: packed.dropped, train_tokens, held_out_tokens })
}

fn put_shard(attempt: &Attempt, shard: &Shard) -> Result<ShardRef, Error> {
    let keep = |bytes: &[u8]| -> Result<Digest, Error> { Ok(attempt.artifacts.put(bytes)?) };
    let files = |files: &Files| -> Result<DatasetRef, Error> {
        Ok(DatasetRef { bin: keep(&files.bin)?, idx: keep(&files.idx)? })
    };
    let mask = shard.mask_files().map(files).transpose()?;
    Ok(ShardRef { index: keep(&shard.index_bytes())?, tokens: files(shard.files())?, mask })
}

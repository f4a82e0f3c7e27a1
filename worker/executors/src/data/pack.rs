//! `data.pack`: tokenizes one split into shards, part by part; one task per split.
//!
//! Each part that is done is recorded in the log with the list of all parts so far, so an attempt that is
//! started again goes on behind the last one. Parts follow from the documents and the parameters alone:
//! whoever packs them, the shards are the same.

use crate::attempt::Attempt;
use crate::error::Error;
use crate::model::open_tokenizer;
use crate::wire::{DatasetRef, PackOutput, PartRef, ScanOutput, ShardRef, TokenizerOutput};
use muster_data::chat::ChatTemplate;
use muster_data::dedup::Choice;
use muster_data::documents::Scan;
use muster_data::megatron::Files;
use muster_data::pack::{PackConfig, Packed, pack, parts};
use muster_data::shard::Shard;
use muster_data::tokenizer::Tokenizer;
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};

/// The key of the records: the newest one's payload lists all parts that are done.
const PART: &str = "part";

/// The body of a record `part`.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    /// Parts that are done.
    parts: u64,
    /// Of how many.
    of: u64,
    /// Tokens to train on so far.
    train_tokens: u64,
}

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let stages = ["scan_stage", "tokenizer_stage"].map(|key| attempt.params.text(key).to_owned());
    let scans: Vec<ScanOutput> = attempt.outputs_of(&stages[0])?;
    let made: TokenizerOutput = attempt.output_of(&stages[1])?;
    let (rank, world) = (attempt.launch.rank as usize, attempt.launch.world as usize);
    let choice: Choice = attempt.get_json(made.choice)?;
    let (Some(mine), Some(keep), true) = (scans.get(rank), choice.keep.get(rank), scans.len() == world)
    else {
        return Err(Error::Unfit(format!(
            "pack split {rank} of {world}: stage `{}` made {} splits",
            stages[0],
            scans.len()
        )));
    };
    let scan = Scan::from_bytes(&attempt.artifacts.get(mine.scan)?)?;
    let tokenizer = open_tokenizer(&attempt.artifacts, made.tokenizer, made.special_tokens)?;
    let config = config(attempt, &tokenizer)?;
    let parts = parts(&scan, keep, attempt.params.whole("part_kib") << 10)?;
    let (mut done, recorded) = resume(attempt, parts.len())?;
    let compute = attempt.compute()?;
    let mut list = attempt.put_json(&done)?;
    for (number, part) in parts.iter().enumerate().skip(done.len()) {
        let packed = pack(&scan, part, &format!("{rank:05}-{number:05}"), &config, &tokenizer, &compute)?;
        done.push(put(attempt, packed)?);
        list = attempt.put_json(&done)?;
        let body = Done {
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
    attempt.output(&output)
}

fn config(attempt: &Attempt, tokenizer: &Tokenizer) -> Result<PackConfig, Error> {
    let params = &attempt.params;
    let too_long = params
        .text("too_long")
        .parse()
        .map_err(|e| Error::Unfit(format!("use the parameters of the stage: {e}")))?;
    Ok(PackConfig {
        template: ChatTemplate::named(params.text("template"), tokenizer)?,
        context: params.size("context"),
        too_long,
    })
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
        Ok(done) => Err(Error::Unfit(format!(
            "go on behind {} parts of {parts}: record {} is of other parts",
            done.len(),
            record.seq
        ))),
        // What an artifact that is gone held can be made again.
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

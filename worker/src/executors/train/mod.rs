//! `train`: one rank of a gang that trains or tunes a model, in step with the others or in rounds.
//!
//! The library computes; here is who computes what, what the log is told before and after, and where a restart goes on. Rank 0 holds the
//! pen. **Invariant**: a sample is used only under a lease in the log, and consumed only by a committed round, whose checkpoint is durable.

mod build;
mod diloco;
mod finish;
mod journal;
mod records;
mod saver;
mod setting;
mod sync;
mod work;

use super::{attempt::Attempt, error::Error, wire::TrainOutput};
use crate::collective::{Gang, Timing};
use build::Source;
use journal::Journal;
use muster_llm::train::Trainer;
use muster_protocol::{ids::Digest, limits::WORKER_LEASE_MS};
use records::Resume;
use setting::{Mode, Setting};
use std::{thread, time::Duration};

/// How long a rank of a broken gang waits to be stopped, before it fails: if another's worker was lost, that is known after a lease, and
/// costs no retry.
const LINGER: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_millis(WORKER_LEASE_MS + 1_000) };

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let ended = train(attempt);
    if let Err(error @ Error::Gang(_)) = &ended {
        attempt.say(&format!("the gang broke: failed to {error}; waiting for {LINGER:?} to be stopped"));
        thread::sleep(LINGER);
    }
    ended
}

/// What the modes end with: the trainer, rank 0's journal, the last checkpoint.
type Ended = (Trainer, Option<Journal>, Option<Digest>);

fn train(attempt: &mut Attempt) -> Result<(), Error> {
    muster_llm::compute::keep_memory();
    let (rank, world) = (attempt.launch.rank, attempt.launch.world);
    let setting = Setting::of(&attempt.params)?;
    let replicas = if setting.mode == Mode::Diloco { setting.rounds.replicas } else { setting.train.microbatches };
    let named = if setting.mode == Mode::Diloco { "replicas" } else { "microbatches" };
    match setting.mode {
        Mode::Single if world > 1 => {
            return Err(Error::Unfit(format!("train with `mode` = single as {world} tasks: it is for one; sync and diloco are for more")));
        }
        Mode::Sync | Mode::Diloco if replicas < world as usize => {
            return Err(Error::Unfit(format!("share `{named}` = {replicas} among {world} ranks: each needs one")));
        }
        Mode::Single | Mode::Sync | Mode::Diloco => {}
    }
    let source = Source::find(attempt, &setting)?;
    let mut gang = form(attempt)?;
    attempt.say(&format!("rank {rank} of {world} has joined formation {}", attempt.member().formation));

    let journal = if rank == 0 { Some(Journal::open(attempt, &setting.train, setting.retention)?) } else { None };
    let said = journal.as_ref().map(|journal| serde_json::to_vec(journal.resume()).unwrap_or_default()).unwrap_or_default();
    let resume: Resume =
        serde_json::from_slice(&gang.from_rank_0(said)?).map_err(|e| Error::Unfit(format!("understand where rank 0 goes on: {e}")))?;
    let trainer = source.trainer()?;
    attempt.say(&format!(
        "{} parameters are trained, at most {} tokens a step, {} steps",
        trainer.parameter_count(),
        trainer.tokens_per_step(),
        setting.train.steps
    ));
    let (gang, of) = (&mut gang, &setting);
    let (trainer, journal, checkpoint): Ended = match setting.mode {
        Mode::Single | Mode::Sync => sync::Sync { attempt, gang, setting: of, source: &source, trainer, journal, resume }.run()?,
        Mode::Diloco => diloco::Diloco { attempt, gang, setting: of, source: &source, trainer, journal, resume }.run()?,
    };
    let checkpoint = checkpoint.ok_or_else(|| Error::Unfit("end the training: it has left no checkpoint".to_owned()))?;
    let model = if rank == 0 { finish::merged(attempt, &setting, &trainer)? } else { None };
    let (loss, tokens_per_s) = journal.as_ref().map_or((0.0, 0.0), Journal::last);
    let output = TrainOutput {
        rank,
        checkpoint,
        model,
        weights: trainer.weights_hash()?,
        step: trainer.step(),
        loss,
        parameters: trainer.parameter_count() as u64,
        tokens: trainer.step() * trainer.tokens_per_step() * if setting.mode == Mode::Diloco { replicas as u64 } else { 1 },
        tokens_per_s,
    };
    attempt.output(&output)
}

/// The checkpoint that rank 0 knows of, as all ranks then know it.
fn agreed(gang: &mut Gang, checkpoint: Option<Digest>) -> Result<Option<Digest>, Error> {
    let said = gang.from_rank_0(checkpoint.map(|hash| hash.to_string()).unwrap_or_default().into_bytes())?;
    if said.is_empty() {
        return Ok(None);
    }
    let hash = std::str::from_utf8(&said).ok().and_then(|text| text.parse().ok());
    hash.map(Some).ok_or_else(|| Error::Unfit("understand which checkpoint rank 0 names".to_owned()))
}

fn form(attempt: &Attempt) -> Result<Gang, Error> {
    match &attempt.launch.gang {
        Some(gang) => Ok(Gang::form(&attempt.member(), &format!("{}:{}", gang.address, gang.port), Timing::default())?),
        None if attempt.launch.world == 1 => Ok(Gang::alone()),
        None => Err(Error::Unfit("find the other ranks: a stage of more than one trainer must say `gang = true`".to_owned())),
    }
}

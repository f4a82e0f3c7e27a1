//! `train`: one rank of a gang that trains or tunes a model, in step with the others or in rounds.
//!
//! The library computes; here is who computes what, what the log is told before and after, and where a
//! restart goes on. Rank 0 holds the pen. **Invariant**: a sample is used only under a lease in the log, and
//! consumed only by a committed round, whose checkpoint is durable.

mod build;
mod diloco;
mod feed;
mod finish;
mod journal;
mod records;
mod saver;
mod setting;
mod sync;
mod work;

use super::attempt::Attempt;
use super::error::Error;
use super::wire::TrainOutput;
use build::Source;
use journal::Journal;
use muster_collective::{Gang, Timing};
use muster_llm::parallel::shares;
use muster_llm::train::{Trainer, order};
use muster_protocol::ids::Digest;
use muster_protocol::limits::WORKER_LEASE_MS;
use records::Resume;
use setting::{Mode, Setting};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};
use work::Work;

/// How long a rank of a broken gang waits to be stopped, before it fails: if another's worker was lost, that
/// is known after a lease, and costs no retry.
const LINGER: Duration =
    if cfg!(test) { Duration::ZERO } else { Duration::from_millis(WORKER_LEASE_MS + 1_000) };

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let ended = train(attempt);
    if let Err(error @ Error::Gang(_)) = &ended {
        attempt.say(&format!("the gang broke: failed to {error}; waiting for {LINGER:?} to be stopped"));
        thread::sleep(LINGER);
    }
    ended
}

/// A gang of ranks whose fastest is faster than its slowest by less than this holds equal shares: noise is no
/// difference.
const UNEQUAL_FROM: f64 = 1.5;
/// Tries of which the fastest counts.
const PROBES: usize = 3;

/// What a rank goes through its rounds with.
struct Rank<'a> {
    attempt: &'a mut Attempt,
    gang: &'a mut Gang,
    setting: &'a Setting,
    source: &'a Source,
    trainer: Trainer,
    /// Rank 0's.
    journal: Option<Journal>,
    resume: Resume,
}

/// What the modes end with: the trainer, rank 0's journal, the last checkpoint.
type Ended = (Trainer, Option<Journal>, Option<Digest>);

fn train(attempt: &mut Attempt) -> Result<(), Error> {
    muster_llm::device::keep_freed_memory();
    let (rank, world) = (attempt.launch.rank, attempt.launch.world);
    let setting = Setting::of(&attempt.params)?;
    let replicas =
        if setting.mode == Mode::Diloco { setting.rounds.replicas } else { setting.train.microbatches };
    let named = if setting.mode == Mode::Diloco { "replicas" } else { "microbatches" };
    match setting.mode {
        Mode::Single if world > 1 => {
            return Err(Error::Unfit(format!(
                "train with `mode` = single as {world} tasks: it is for one; sync and diloco are for more"
            )));
        }
        Mode::Sync | Mode::Diloco if replicas < world as usize => {
            return Err(Error::Unfit(format!(
                "share `{named}` = {replicas} among {world} ranks: each needs one"
            )));
        }
        Mode::Single | Mode::Sync | Mode::Diloco => {}
    }
    let mut source = Source::find(attempt, &setting)?;
    let mut gang = form(attempt)?;
    attempt.say(&format!("rank {rank} of {world} has joined formation {}", attempt.member().formation));

    let journal =
        if rank == 0 { Some(Journal::open(attempt, &setting.train, setting.retention)?) } else { None };
    let said = journal
        .as_ref()
        .map(|journal| serde_json::to_vec(journal.resume()).unwrap_or_default())
        .unwrap_or_default();
    let resume: Resume = serde_json::from_slice(&gang.from_rank_0(said)?)
        .map_err(|e| Error::Unfit(format!("understand where rank 0 goes on: {e}")))?;
    // Not before: a loader may be late, and the others would wait for us in vain.
    source.open(attempt)?;
    let trainer = source.trainer()?;
    attempt.say(&format!(
        "{} parameters are trained, at most {} tokens a step, {} steps",
        trainer.parameter_count(),
        trainer.tokens_per_step(),
        setting.train.steps
    ));
    let of = Rank {
        attempt: &mut *attempt,
        gang: &mut gang,
        setting: &setting,
        source: &source,
        trainer,
        journal,
        resume,
    };
    let (trainer, journal, checkpoint) = match setting.mode {
        Mode::Single | Mode::Sync => sync::Sync(of).run()?,
        Mode::Diloco => diloco::Diloco(of).run()?,
    };
    let checkpoint =
        checkpoint.ok_or_else(|| Error::Unfit("end the training: it has left no checkpoint".to_owned()))?;
    let model = if rank == 0 { finish::merged(attempt, &setting, &source, &trainer)? } else { None };
    let (loss, tokens_per_s) = journal.as_ref().map_or((0.0, 0.0), Journal::last);
    let output = TrainOutput {
        rank,
        checkpoint,
        model,
        weights: trainer.weights_hash()?,
        step: trainer.step(),
        loss,
        parameters: trainer.parameter_count() as u64,
        tokens: trainer.step()
            * trainer.tokens_per_step()
            * if setting.mode == Mode::Diloco { replicas as u64 } else { 1 },
        tokens_per_s,
    };
    attempt.output(&output)
}

impl Rank<'_> {
    /// The checkpoint of the last committed round, as rank 0 knows it and all ranks then do.
    fn last_checkpoint(&mut self) -> Result<Option<Digest>, Error> {
        let round = self.journal.as_ref().and_then(|journal| journal.resume().round.as_ref());
        let said = self
            .gang
            .from_rank_0(round.map(|round| round.checkpoint.to_string()).unwrap_or_default().into_bytes())?;
        if said.is_empty() {
            return Ok(None);
        }
        let hash = std::str::from_utf8(&said).ok().and_then(|text| text.parse().ok());
        hash.map(Some).ok_or_else(|| Error::Unfit("understand which checkpoint rank 0 names".to_owned()))
    }

    /// What this rank will take of some samples, in order, for whoever fetches it ahead: microbatches, by
    /// their place among all of them.
    fn expect(&self, samples: &[Range<u64>], microbatches: impl Iterator<Item = u64> + Send + 'static) {
        let (samples, each) = (samples.to_vec(), self.setting.train.sequences as u64);
        self.trainer.prefetch(microbatches.map(move |place| order::part(&samples, place * each, each)));
    }

    /// How many times in 1,000 s these samples could be learnt from, by some tries that change nothing; 0 if
    /// nobody wants to know.
    fn speed(&self, samples: &[Range<u64>]) -> Result<u64, Error> {
        if !self.setting.measured || self.attempt.launch.world == 1 {
            return Ok(0);
        }
        // The best counts, since a machine may be busy with something else.
        let mut best = f64::MAX;
        for _ in 0..PROBES {
            let began = Instant::now();
            // It changes nothing, so it may be done in parts in any case.
            Work::new(&self.trainer, true).of(samples)?;
            best = best.min(began.elapsed().as_secs_f64());
        }
        Ok((1e3 / best.max(1e-6)) as u64)
    }

    /// Which replicas each rank holds, by the speeds of all; speeds that hardly differ count as equal. All
    /// ranks come to the same answer.
    fn hold(&mut self, replicas: usize, speed: u64) -> Result<Vec<Range<usize>>, Error> {
        let said = self.gang.all_gather(speed.to_le_bytes().to_vec())?;
        let read = |bytes: Vec<u8>| {
            bytes
                .try_into()
                .map(u64::from_le_bytes)
                .map_err(|_| Error::Unfit("read a rank's speed".to_owned()))
        };
        let speeds = said.into_iter().map(read).collect::<Result<Vec<u64>, Error>>()?;
        let (least, most) =
            (speeds.iter().min().copied().unwrap_or(0), speeds.iter().max().copied().unwrap_or(0));
        let equal = (most as f64) < least as f64 * UNEQUAL_FROM;
        let ranges = shares(replicas, &if equal { vec![0; speeds.len()] } else { speeds.clone() })?;
        if let Some(journal) = &mut self.journal
            && speeds.len() > 1
        {
            journal.shares(
                self.attempt,
                &speeds,
                &ranges.iter().map(ExactSizeIterator::len).collect::<Vec<usize>>(),
            )?;
        }
        Ok(ranges)
    }
}

fn form(attempt: &Attempt) -> Result<Gang, Error> {
    match &attempt.launch.gang {
        Some(gang) => {
            Ok(Gang::form(&attempt.member(), &format!("{}:{}", gang.address, gang.port), Timing::default())?)
        }
        None if attempt.launch.world == 1 => Ok(Gang::alone()),
        None => Err(Error::Unfit(
            "find the other ranks: a stage of more than one trainer must say `gang = true`".to_owned(),
        )),
    }
}

//! `data.load`: makes batches for trainers elsewhere, so that those need neither the data set in memory nor
//! time to read it.
//!
//! It records its address in the log, and serves until every stage that it feeds has ended. It keeps no state
//! that matters: if it is killed, it starts again elsewhere, and trainers find it there.

use crate::error::Error;
use crate::model::{corpus, named_data_set};
use crate::params::Params;
use crate::wait_times::WaitTimes;
use muster_attempt::Attempt;
use muster_collective::loader::{LoaderAddress, Recipe, Served, serve};
use muster_llm::train::{Corpus, Dataset, PackedSequences, TextWindows};
use muster_protocol::ids::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The record that says where a loader listens: a [`LoaderAddress`].
pub const SERVE: &str = "serve";
/// The interval between two records of what was served.
const RECORD_INTERVAL: Duration = Duration::from_secs(10);

/// Parameters of `data.load`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadParams {
    /// Stages of `train` that take their samples from here, which ends when they have; empty: `train`.
    pub feeds: Vec<String>,
    /// Where it listens; empty: any port of the worker's address.
    pub bind: String,
    /// The stage that ran `data.manifest`.
    pub manifest_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for LoadParams {
    fn default() -> LoadParams {
        let manifest_stage = "manifest".to_owned();
        LoadParams { feeds: Vec::new(), bind: String::new(), manifest_stage, seed: 1 }
    }
}

impl Params for LoadParams {}

/// The record `load`, and the output: what was served.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Batches.
    pub batches: u64,
    /// Samples in them.
    pub samples: u64,
    /// Their bytes, about.
    pub bytes: u64,
}

/// Runs one task of the stage.
pub fn run(attempt: &mut Attempt, params: &LoadParams, waits: &WaitTimes) -> Result<(), Error> {
    let (hash, data) = named_data_set(attempt, &params.manifest_stage)?;
    let corpus = Arc::new(corpus(&attempt.artifacts, &data.train)?);
    let bind = match params.bind.as_str() {
        "" => format!("{}:0", attempt.address),
        bind => bind.to_owned(),
    };
    let failed = |source| Error::Listen { bind: bind.clone(), source };
    let listener = TcpListener::bind(&bind).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let place = LoaderAddress {
        address: format!("{}:{port}", attempt.address),
        token: uuid::Uuid::new_v4().to_string(),
    };
    let number = u64::from(attempt.launch.attempt.epoch) << 32;
    attempt.record(SERVE, number, Digest::of(place.token.as_bytes()), &place, false)?;
    attempt.say(&format!("{} tokens of {hash} are served at {}", corpus.len(), place.address));

    let (served, over) = (Served::default(), AtomicBool::new(false));
    let open = |recipe: &Recipe| samples(&corpus, recipe).map_err(|error| error.to_string());
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, &place.token, &hash.to_string(), &open, &served, &over));
        let waited = wait(attempt, &params.feeds, waits.stage_poll, &served, number);
        over.store(true, Ordering::Relaxed);
        match server.join() {
            Ok(ended) => waited.and(ended.map_err(Error::from)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    let loaded = so_far(&served);
    Ok(attempt.output(&loaded)?)
}

fn samples(corpus: &Arc<Corpus>, recipe: &Recipe) -> Result<Arc<dyn Dataset>, Error> {
    let corpus = Arc::clone(corpus);
    Ok(match recipe {
        Recipe::Text { context, cut } => Arc::new(TextWindows::new(corpus, *context, *cut)?),
        Recipe::Conversations { context, too_long } => {
            Arc::new(PackedSequences::new(corpus, *context, 0, *too_long)?)
        }
    })
}

/// Returns once all tasks of the stages that it feeds have succeeded. If one fails for good, the job ends,
/// and this task with it.
fn wait(
    attempt: &mut Attempt,
    feeds: &[String],
    poll: Duration,
    served: &Served,
    mut number: u64,
) -> Result<(), Error> {
    let default = ["train".to_owned()];
    let feeds = if feeds.is_empty() { &default } else { feeds };
    let mut told = (Instant::now(), so_far(served));
    for stage in feeds {
        let tasks = attempt.find_stage(stage)?.tasks as usize;
        while attempt.succeeded(stage)? < tasks {
            thread::sleep(poll);
            let loaded = so_far(served);
            if told.0.elapsed() >= RECORD_INTERVAL && told.1 != loaded {
                number += 1;
                attempt.record("load", number, Digest::default(), &loaded, false)?;
                told = (Instant::now(), loaded);
            }
        }
        attempt.say(&format!("stage `{stage}` has ended: it was fed"));
    }
    Ok(())
}

fn so_far(served: &Served) -> Loaded {
    let [batches, samples, bytes] =
        [&served.batches, &served.samples, &served.bytes].map(|count| count.load(Ordering::Relaxed));
    Loaded { batches, samples, bytes }
}

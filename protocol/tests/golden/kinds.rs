//! A table of every enum with tags and every envelope.

use super::samples;
use bincode::{Decode, Encode};
use muster_protocol::attempt_call::{AgentFrame, AttemptFrame, CallAnswer, CallRequest};
use muster_protocol::bus::{Down, DownEnvelope, Phase, Stream, Up, UpEnvelope};
use muster_protocol::codec::{self, CodecError};
use muster_protocol::command::Command;
use muster_protocol::envelope::{Answer, Batch, Reply};
use muster_protocol::event::{Event, EventRecord};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::rejection::Rejection;
use muster_protocol::spec::{JobSpec, OnPartition, TaskKind, TaskRef, Work};
use muster_protocol::worker::{Liveness, ReportKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type in the log, on the wire or on a socket.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name and that of its folder.
    pub name: &'static str,
    pub tags: &'static [(u16, &'static str)],
    /// One value for each tag.
    pub samples: fn() -> Vec<Sample>,
    /// Decodes and encodes again.
    pub again: fn(&[u8]) -> Result<Vec<u8>, CodecError>,
    /// Decodes valid bytes to JSON.
    pub to_json: fn(&[u8]) -> String,
    /// Encodes JSON.
    pub from_json: fn(&str) -> Result<Vec<u8>, String>,
}

pub struct Sample {
    pub tag: u16,
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

const LIMIT_BYTES: usize = 1 << 20;

fn again<T: Encode + Decode<()>>(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    codec::decode::<T>(bytes, LIMIT_BYTES).map(|value| codec::encode(&value))
}

fn to_json<T: Decode<()> + Serialize>(bytes: &[u8]) -> String {
    serde_json::to_string(&codec::decode::<T>(bytes, LIMIT_BYTES).expect("golden bytes decode"))
        .expect("every value has a JSON form")
}

fn from_json<T: Encode + DeserializeOwned>(json: &str) -> Result<Vec<u8>, String> {
    serde_json::from_str::<T>(json).map(|value| codec::encode(&value)).map_err(|error| error.to_string())
}

macro_rules! tagged_kind {
    ($type:ty, $name:literal, $samples:path) => {
        Kind {
            name: $name,
            tags: <$type>::TAGS,
            samples: || {
                let samples: Vec<$type> = $samples();
                samples
                    .iter()
                    .map(|value| Sample { tag: value.tag(), name: value.name(), bytes: codec::encode(value) })
                    .collect()
            },
            again: again::<$type>,
            to_json: to_json::<$type>,
            from_json: from_json::<$type>,
        }
    };
}

/// Without tags of its own: numbered here, as it stands in the table.
macro_rules! plain_kind {
    ($type:ty, $name:literal, $tags:expr, $samples:path) => {
        Kind {
            name: $name,
            tags: $tags,
            samples: || {
                let samples: Vec<$type> = $samples();
                let tags: &[(u16, &'static str)] = $tags;
                assert_eq!(samples.len(), tags.len(), "one sample for each tag");
                samples
                    .iter()
                    .zip(tags)
                    .map(|(value, &(tag, name))| Sample { tag, name, bytes: codec::encode(value) })
                    .collect()
            },
            again: again::<$type>,
            to_json: to_json::<$type>,
            from_json: from_json::<$type>,
        }
    };
}

/// All of them.
pub fn kinds() -> Vec<Kind> {
    vec![
        tagged_kind!(Command, "command", samples::commands),
        tagged_kind!(Event, "event", samples::events),
        tagged_kind!(Up, "up", samples::ups),
        tagged_kind!(Down, "down", samples::downs),
        tagged_kind!(AttemptFrame, "attempt-frame", samples::attempt_frames),
        tagged_kind!(AgentFrame, "agent-frame", samples::agent_frames),
        tagged_kind!(CallRequest, "call-request", samples::call_requests),
        tagged_kind!(CallAnswer, "call-answer", samples::call_answers),
        tagged_kind!(Outcome, "outcome", samples::outcomes),
        tagged_kind!(Reply, "reply", samples::replies),
        tagged_kind!(Answer, "answer", samples::answers),
        tagged_kind!(Rejection, "rejection", samples::rejections),
        tagged_kind!(ReportKind, "report", samples::reports),
        tagged_kind!(Work, "work", samples::works),
        tagged_kind!(TaskRef, "task-ref", samples::task_refs),
        plain_kind!(Batch, "envelope-batch", &[(1, "Batch")], samples::batches),
        plain_kind!(UpEnvelope, "envelope-up", &[(1, "UpEnvelope")], samples::up_envelopes),
        plain_kind!(DownEnvelope, "envelope-down", &[(1, "DownEnvelope")], samples::down_envelopes),
        plain_kind!(EventRecord, "event-record", &[(1, "EventRecord")], samples::event_records),
        plain_kind!(JobSpec, "job-spec", &[(1, "Full"), (2, "Least")], samples::job_specs),
        plain_kind!(
            Liveness,
            "words-liveness",
            &[(0, "Alive"), (1, "Suspect"), (2, "Lost")],
            samples::livenesses
        ),
        plain_kind!(
            Terminal,
            "words-terminal",
            &[(1, "Succeeded"), (2, "Failed"), (3, "Cancelled")],
            samples::terminals
        ),
        plain_kind!(
            Phase,
            "words-phase",
            &[(0, "Queued"), (1, "Running"), (2, "Stopping"), (3, "Ended")],
            samples::phases
        ),
        plain_kind!(Stream, "words-stream", &[(1, "Stdout"), (2, "Stderr")], samples::streams),
        plain_kind!(TaskKind, "words-task-kind", &[(0, "Batch"), (1, "Service")], samples::task_kinds),
        plain_kind!(
            OnPartition,
            "words-on-partition",
            &[(0, "Stop"), (1, "Continue")],
            samples::on_partitions
        ),
    ]
}

//! The encoding of one record of Raft's log, which is one append.

use bincode::{Decode, Encode};
use muster_protocol::codec::{self, CodecError};
use protobuf::{Message, ProtobufEnum};
use raft::eraftpb::{ConfState, Entry, EntryType, HardState};

#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// Raft's term, vote and commit index after it.
    pub hard_state: HardState,
    /// The members after it.
    pub conf_state: ConfState,
    /// Discards the log before it: entries begin after this index.
    pub reset_after: Option<u64>,
    /// Replace everything from the first one's index on.
    pub entries: Vec<Entry>,
}

/// For writing: byte strings are borrowed.
#[derive(Encode)]
struct EncodedRecord<'a> {
    term: u64,
    vote: u64,
    commit: u64,
    conf_state: &'a [u8],
    reset_after: Option<u64>,
    entries: Vec<EncodedEntry<'a>>,
}

#[derive(Encode)]
struct EncodedEntry<'a> {
    kind: i32,
    term: u64,
    index: u64,
    data: &'a [u8],
    context: &'a [u8],
}

/// For reading: the same encoding, owned.
#[derive(Decode)]
struct DecodedRecord {
    term: u64,
    vote: u64,
    commit: u64,
    conf_state: Vec<u8>,
    reset_after: Option<u64>,
    entries: Vec<DecodedEntry>,
}

#[derive(Decode)]
struct DecodedEntry {
    kind: i32,
    term: u64,
    index: u64,
    data: Vec<u8>,
    context: Vec<u8>,
}

const RECORD_BYTES_MAX: usize = 256 << 20;

pub fn to_bytes(
    hard_state: &HardState,
    conf_state: &ConfState,
    reset_after: Option<u64>,
    entries: &[Entry],
) -> Vec<u8> {
    let conf_state = conf_state
        .write_to_bytes()
        .expect("a message without required fields can always be written to memory");
    codec::seal(&EncodedRecord {
        term: hard_state.term,
        vote: hard_state.vote,
        commit: hard_state.commit,
        conf_state: &conf_state,
        reset_after,
        entries: entries.iter().map(EncodedEntry::from).collect(),
    })
}

impl<'a> From<&'a Entry> for EncodedEntry<'a> {
    fn from(entry: &'a Entry) -> Self {
        let Entry { entry_type, term, index, data, context, .. } = entry;
        EncodedEntry { kind: entry_type.value(), term: *term, index: *index, data, context }
    }
}

pub fn from_bytes(bytes: &[u8]) -> Result<LogRecord, CodecError> {
    let read: DecodedRecord = codec::open(bytes, RECORD_BYTES_MAX)?;
    let malformed = |what: &str| CodecError::Malformed(what.to_string());
    let entry = |entry: DecodedEntry| {
        let mut raft_entry = Entry::new();
        raft_entry.set_entry_type(
            EntryType::from_i32(entry.kind)
                .ok_or_else(|| malformed("a kind of entry that Raft does not know"))?,
        );
        raft_entry.term = entry.term;
        raft_entry.index = entry.index;
        raft_entry.data = entry.data.into();
        raft_entry.context = entry.context.into();
        Ok(raft_entry)
    };
    let mut hard_state = HardState::new();
    hard_state.term = read.term;
    hard_state.vote = read.vote;
    hard_state.commit = read.commit;
    let conf_state =
        ConfState::parse_from_bytes(&read.conf_state).map_err(|e| CodecError::Malformed(e.to_string()))?;
    let entries = read.entries.into_iter().map(entry).collect::<Result<_, CodecError>>()?;
    Ok(LogRecord { hard_state, conf_state, reset_after: read.reset_after, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_round_trips() {
        let mut entry = Entry::new();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        (entry.term, entry.index, entry.data, entry.context) =
            (3, 70_000, vec![1, 2, 3].into(), vec![9].into());
        let mut hard_state = HardState::new();
        (hard_state.term, hard_state.vote, hard_state.commit) = (3, 2, 69_999);
        let mut conf_state = ConfState::new();
        conf_state.voters = vec![1, 2, 3];
        for (reset_after, entries) in [(None, vec![]), (Some(7), vec![]), (None, vec![entry.clone(), entry])]
        {
            let bytes = to_bytes(&hard_state, &conf_state, reset_after, &entries);
            let expected = LogRecord {
                hard_state: hard_state.clone(),
                conf_state: conf_state.clone(),
                reset_after,
                entries,
            };
            assert_eq!(from_bytes(&bytes), Ok(expected));
            assert!(from_bytes(&bytes[..bytes.len() - 1]).is_err());
        }
    }
}

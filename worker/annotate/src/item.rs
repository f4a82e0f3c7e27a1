//! The items to label: read once, from a file or from the output of an earlier stage, and kept as an
//! artifact.
//!
//! A line of a file is a JSON object with a text, and optionally an id and a proposal; other members are
//! passed through. An invalid line is an error with its number, so that no file is labelled in part.

use super::error::Error;
use super::params::AnnotateParams;
use super::refusal::check_label;
use muster_attempt::Attempt;
use muster_data::documents::{Body, Document, Place, Scan, Turn};
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Most items of a stage.
pub const ITEMS_MAX: usize = 1_000_000;
/// The longest text: a person has to read it.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// The longest id.
pub const ID_BYTES_MAX: usize = 512;
/// The largest file of items or of proposals.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Something to label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its id, unique in the stage.
    pub id: String,
    /// The text that people see.
    pub text: String,
    /// The label that a model proposes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<String>,
    /// The other members of its line.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub source: Map<String, Value>,
}

/// The output of a stage that leaves items: one of these.
#[derive(Debug, Deserialize)]
struct ItemsOutput {
    /// An artifact of JSON lines.
    items: Option<Digest>,
    /// The same, as an annotate stage leaves it.
    labelled: Option<Digest>,
    /// The documents of `data.scan`.
    scan: Option<Digest>,
}

/// The output of a stage that leaves proposals.
#[derive(Debug, Deserialize)]
struct ProposalsOutput {
    /// An artifact of JSON lines.
    proposals: Digest,
}

/// A line of proposals.
#[derive(Debug, Deserialize)]
struct Proposal {
    item: String,
    label: String,
}

/// The names of the members of a line.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// The id; a line without one gets its number.
    pub id: &'a str,
    /// The text.
    pub text: &'a str,
    /// The proposal.
    pub proposal: &'a str,
}

/// Reads the items as the parameters say, with their proposals.
pub fn gather(attempt: &mut Attempt, params: &AnnotateParams, labels: &[String]) -> Result<Vec<Item>, Error> {
    let (path, stage) = (&params.items, &params.items_stage);
    let fields = Fields { id: &params.id_field, text: &params.text_field, proposal: &params.proposal_field };
    let mut items = match (path.is_empty(), stage.is_empty()) {
        (false, true) => from_lines(&read(path)?, path, "", fields)?,
        (true, false) => from_stage(attempt, stage, fields)?,
        (true, true) => {
            return Err(Error::NoItems);
        }
        (false, false) => {
            return Err(Error::TwoSourcesOfItems);
        }
    };
    let most = params.items_max;
    if most > 0 && items.len() > most {
        attempt.say(&format!("of {} items, the first {most} are to be labelled", items.len()));
        items.truncate(most);
    }
    check(&items)?;
    let (file, stage) = (&params.proposals, &params.propose_stage);
    if !file.is_empty() {
        propose(&mut items, &read(file)?, file)?;
    }
    if !stage.is_empty() {
        for output in attempt.outputs_of::<ProposalsOutput>(stage)? {
            propose(
                &mut items,
                &attempt.artifacts.get(output.proposals)?,
                &format!("artifact {}", output.proposals),
            )?;
        }
    }
    for item in &items {
        if let Some(proposal) = &item.proposal {
            check_label(labels, &item.id, proposal).map_err(Error::Proposal)?;
        }
    }
    Ok(items)
}

/// The items as an artifact: JSON lines.
pub fn to_bytes(items: &[Item]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for item in items {
        serde_json::to_writer(&mut bytes, item)
            .map_err(|source| Error::Encode { values: "items", source })?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// The items back from the artifact.
pub fn from_bytes(bytes: &[u8]) -> Result<Vec<Item>, Error> {
    let item = |(number, line)| {
        serde_json::from_slice(line)
            .map_err(|source| Error::Decode { values: format!("item on line {number}"), source })
    };
    lines(bytes).map(item).collect()
}

/// The lines that are not blank, with their numbers from 1.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let numbered =
        bytes.split(|byte| *byte == b'\n').enumerate().map(|(index, line)| (index + 1, line.trim_ascii()));
    numbered.filter(|(_, line)| !line.is_empty())
}

fn read(path: &str) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    if Path::new(path).is_relative() {
        return Err(Error::RelativePath { path: path.to_owned() });
    }
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(Error::FileTooLong { path: path.to_owned(), bytes, limit: FILE_BYTES_MAX });
    }
    fs::read(path).map_err(failed)
}

fn from_stage(attempt: &mut Attempt, stage: &str, fields: Fields<'_>) -> Result<Vec<Item>, Error> {
    let outputs: Vec<ItemsOutput> = attempt.outputs_of(stage)?;
    let several = outputs.len() > 1;
    let mut items = Vec::new();
    for (part, output) in outputs.iter().enumerate() {
        let prefix = if several { format!("{part}-") } else { String::new() };
        match (output.items.or(output.labelled), output.scan) {
            (Some(hash), _) => items.extend(from_lines(
                &attempt.artifacts.get(hash)?,
                &format!("artifact {hash}"),
                &prefix,
                fields,
            )?),
            (None, Some(hash)) => items.extend(from_scan(Scan::from_bytes(&attempt.artifacts.get(hash)?)?)),
            (None, None) => {
                return Err(Error::StageWithoutItems { stage: stage.to_owned() });
            }
        }
    }
    Ok(items)
}

fn from_scan(scan: Scan) -> impl Iterator<Item = Item> {
    scan.documents.into_iter().map(|document| Item {
        id: document_id(&document),
        text: document_text(&document.body),
        proposal: None,
        source: Map::from_iter([("hash".to_owned(), Value::from(document.entry.hash))]),
    })
}

/// The file of a document, and where in the file it stands.
fn document_id(document: &Document) -> String {
    let path = &document.entry.path;
    match document.entry.place {
        Place::Whole => path.clone(),
        Place::Bytes { start, end } => format!("{path}:{start}-{end}"),
        Place::Row(row) => format!("{path}:{row}"),
    }
}

/// The text of a document, as a person reads it.
fn document_text(body: &Body) -> String {
    let said = |turns: &[Turn]| {
        turns.iter().map(|turn| format!("[{}]\n{}\n\n", turn.role, turn.content)).collect::<String>()
    };
    match body {
        Body::Text(text) => text.clone(),
        Body::Chat(turns) => said(turns),
        Body::Preference { prompt, chosen, rejected } => {
            format!("{}[chosen]\n{chosen}\n\n[rejected]\n{rejected}\n", said(prompt))
        }
    }
}

/// Reads items from JSON lines of `name`. Ids that are made begin with `prefix`.
pub fn from_lines(bytes: &[u8], name: &str, prefix: &str, fields: Fields<'_>) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    for (number, line) in lines(bytes) {
        let failed = |reason: String| Error::ItemLine { name: name.to_owned(), line: number, reason };
        let mut source: Map<String, Value> =
            serde_json::from_slice(line).map_err(|error| failed(format!("is not a JSON object: {error}")))?;
        let text = match source.remove(fields.text) {
            Some(Value::String(text)) => text,
            Some(_) => return Err(failed(format!("has a `{}` that is not a text", fields.text))),
            None => return Err(failed(format!("has no `{}`, which `text_field` names", fields.text))),
        };
        let id = match source.remove(fields.id) {
            Some(Value::String(id)) => id,
            Some(Value::Number(id)) => id.to_string(),
            Some(_) => {
                return Err(failed(format!("has a `{}` that is neither a text nor a number", fields.id)));
            }
            None => format!("{prefix}{number}"),
        };
        let proposal = match source.remove(fields.proposal) {
            Some(Value::String(proposal)) => Some(proposal),
            Some(Value::Null) | None => None,
            Some(_) => return Err(failed(format!("has a `{}` that is not a text", fields.proposal))),
        };
        items.push(Item { id, text, proposal, source });
    }
    Ok(items)
}

fn check(items: &[Item]) -> Result<(), Error> {
    let wrong = |reason: String| Err(Error::Items(reason));
    if items.is_empty() || items.len() > ITEMS_MAX {
        return wrong(format!("there are {}; 1 to {ITEMS_MAX} are allowed", items.len()));
    }
    let mut seen = BTreeSet::new();
    for item in items {
        if item.id.is_empty() || item.id.len() > ID_BYTES_MAX || item.id.chars().any(char::is_control) {
            return wrong(format!(
                "an id has 1 to {ID_BYTES_MAX} bytes without control characters, not {:?}",
                item.id
            ));
        }
        if !seen.insert(&item.id) {
            return wrong(format!("two have the id {:?}", item.id));
        }
        if item.text.len() > TEXT_BYTES_MAX {
            return wrong(format!(
                "the text of {:?} has {} bytes; at most {TEXT_BYTES_MAX} are allowed",
                item.id,
                item.text.len()
            ));
        }
    }
    Ok(())
}

/// Sets the proposals of the items from JSON lines of `name`, over those that they have.
fn propose(items: &mut [Item], bytes: &[u8], name: &str) -> Result<(), Error> {
    let mut given = BTreeMap::new();
    for (number, line) in lines(bytes) {
        let failed = |reason: String| Error::ProposalLine { name: name.to_owned(), line: number, reason };
        let proposal: Proposal = serde_json::from_slice(line)
            .map_err(|error| failed(format!("is not {{\"item\", \"label\"}}: {error}")))?;
        if given.insert(proposal.item.clone(), proposal.label).is_some() {
            return Err(failed(format!("is the second for {:?}", proposal.item)));
        }
    }
    for item in items {
        if let Some(label) = given.remove(&item.id) {
            item.proposal = Some(label);
        }
    }
    // With `items_max` there may be proposals for items that were left out.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Fields<'_> = Fields { id: "id", text: "text", proposal: "proposal" };

    #[test]
    fn lines_become_items_and_come_back() {
        let text = "{\"id\": 7, \"text\": \"a\", \"proposal\": \"good\", \"lang\": \"rs\"}\n\n{\"text\": \"b\\nc\", \"proposal\": null}\r\n";
        let items = from_lines(text.as_bytes(), "f", "2-", FIELDS).unwrap();
        let shown: Vec<_> = items
            .iter()
            .map(|item| (item.id.as_str(), item.text.as_str(), item.proposal.as_deref()))
            .collect();
        assert_eq!(shown, [("7", "a", Some("good")), ("2-3", "b\nc", None)]);
        assert_eq!(items[0].source["lang"], "rs");
        assert_eq!(from_bytes(&to_bytes(&items).unwrap()).unwrap(), items);
    }

    #[test]
    fn an_invalid_line_is_named() {
        let table = [
            ("{\"text\": \"a\"}\n[]", "line 2 of f is not a JSON object"),
            ("{\"txt\": \"a\"}", "line 1 of f has no `text`, which `text_field` names"),
            ("\n{\"text\": 4}", "line 2 of f has a `text` that is not a text"),
            ("{\"text\": \"a\", \"id\": []}", "has a `id` that is neither a text nor a number"),
            ("{\"text\": \"a\", \"proposal\": 1}", "has a `proposal` that is not a text"),
        ];
        for (text, expected) in table {
            let message = from_lines(text.as_bytes(), "f", "", FIELDS).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let twice =
            from_lines(b"{\"text\": \"a\", \"id\": \"2\"}\n{\"text\": \"b\"}", "f", "", FIELDS).unwrap();
        assert!(check(&twice).unwrap_err().to_string().contains("two have the id \"2\""));
        assert!(check(&[]).unwrap_err().to_string().contains("there are 0"));
        assert!(read("some/file").unwrap_err().to_string().contains("an absolute path is needed"));
        assert!(read("/no/such/file").unwrap_err().to_string().contains("read /no/such/file: No such file"));
    }

    #[test]
    fn proposals_replace_those_of_the_items() {
        let mut items =
            from_lines(b"{\"text\": \"a\", \"proposal\": \"x\"}\n{\"text\": \"b\"}", "f", "", FIELDS)
                .unwrap();
        propose(&mut items, b"{\"item\": \"2\", \"label\": \"y\"}\n{\"item\": \"9\", \"label\": \"z\"}", "p")
            .unwrap();
        assert_eq!(
            items.iter().map(|item| item.proposal.as_deref()).collect::<Vec<_>>(),
            [Some("x"), Some("y")]
        );
        let twice = b"{\"item\": \"2\", \"label\": \"y\"}\n{\"item\": \"2\", \"label\": \"y\"}";
        assert!(
            propose(&mut items, twice, "p")
                .unwrap_err()
                .to_string()
                .contains("line 2 of p is the second for \"2\"")
        );
        assert!(propose(&mut items, b"{}", "p").unwrap_err().to_string().contains("line 1 of p"));
    }
}

//! Parquet tables, row by row, a row group at a time; only the columns that may hold a document are read.
//!
//! Pages may be uncompressed or compressed with Snappy or gzip; other codecs are refused by name.

use super::fields::Fields;
use super::part::{FilePart, PartRange, invalid_file};
use super::record::{RawRecord, Record, RecordSink};
use crate::Error;
use crate::documents::Place;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Bytes of each row group on disk.
pub fn row_groups(path: &Path) -> Result<Vec<u64>, Error> {
    guarded(path, || {
        let groups = open(path)?;
        let bytes = groups
            .metadata()
            .row_groups()
            .iter()
            .map(|group| u64::try_from(group.compressed_size()).unwrap_or(0));
        Ok(bytes.collect())
    })
}

/// Passes the rows of a part's row group to `take`.
pub fn read(part: &FilePart, fields: &Fields, take: &mut RecordSink) -> Result<(), Error> {
    let PartRange::RowGroup(group) = part.range else {
        return Err(invalid_file(&part.path, "a Parquet file is read by row groups"));
    };
    guarded(&part.path, || {
        let failed = |e: ParquetError| invalid_file(&part.path, &format!("read row group {group}: {e}"));
        let file = open(&part.path)?;
        let metadata = file.metadata();
        let rows_of = |group: usize| {
            metadata.row_groups().get(group).map_or(0, |group| u64::try_from(group.num_rows()).unwrap_or(0))
        };
        let first: u64 = (0..group).map(rows_of).sum();
        let rows = file.get_row_group(group).map_err(failed)?;
        let schema = metadata.file_metadata().schema_descr().root_schema();
        let wanted = schema
            .get_fields()
            .iter()
            .filter(|field| fields.names().contains(&field.name()))
            .cloned()
            .collect::<Vec<_>>();
        if wanted.is_empty() {
            let names: Vec<_> =
                schema.get_fields().iter().map(|field| format!("`{}`", field.name())).collect();
            let reason = format!(
                "it has none of the columns `{}`; it has {}",
                fields.names().join("`, `"),
                names.join(", ")
            );
            return Err(invalid_file(&part.path, &reason));
        }
        let projection =
            Type::group_type_builder(schema.name()).with_fields(wanted).build().map_err(failed)?;
        for (row, number) in
            RowIter::from_row_group(Some(projection), rows.as_ref()).map_err(failed)?.zip(first..)
        {
            let body = fields.of_row(object(row.map_err(failed)?));
            let bytes = body.as_ref().map_or(0, crate::documents::Body::bytes);
            let record =
                Record { place: Place::Row(number), bytes, line: Some(number), raw: RawRecord::Row(body) };
            if take(record)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, Error> {
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    SerializedFileReader::new(file).map_err(|e| invalid_file(path, &format!("no Parquet file: {e}")))
}

/// The library may panic where a file is damaged; that must end the reading of the file and nothing else.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(invalid_file(path, "no Parquet file that can be read: it is damaged")))
}

fn object(row: Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(yes) => Value::Bool(yes),
        Field::Str(text) => Value::String(text),
        // Text without the annotation that it is text: old writers leave it out.
        Field::Bytes(bytes) => {
            String::from_utf8(bytes.data().to_vec()).map_or(Value::Bool(false), Value::String)
        }
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => Value::Array(list.elements().iter().cloned().map(value).collect()),
        // No document is made of these: that they are there, and no text, is all that a message says.
        _ => Value::from(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{Body, Turn};
    use crate::read::{Format, parts};
    use std::fs;
    use std::ops::ControlFlow;
    use std::path::PathBuf;

    /// What `oracle/data/rows.py` wrote.
    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rows").join(format!("{name}.parquet"))
    }

    type Rows = Vec<(Place, Result<Body, String>)>;

    /// The rows of each part.
    fn rows(path: &Path) -> Result<Vec<Rows>, Error> {
        let bytes = fs::metadata(path).expect("is there").len();
        let mut all = Vec::new();
        for part in parts(path, bytes, Format::Auto, 1)? {
            let mut rows = Vec::new();
            read(&part, &Fields::default(), &mut |record| {
                let RawRecord::Row(body) = record.raw else { panic!("a row is a row") };
                rows.push((record.place, body));
                Ok(ControlFlow::Continue(()))
            })?;
            all.push(rows);
        }
        Ok(all)
    }

    #[test]
    fn each_row_group_is_a_part_and_each_row_has_its_number() {
        let text = |row, text: &str| (Place::Row(row), Ok(Body::Text(text.to_owned())));
        for compression in ["none", "snappy", "gzip"] {
            let mut found = rows(&golden(&format!("texts.{compression}"))).expect("reads");
            let (place, empty) = found[1].remove(0);
            assert_eq!(place, Place::Row(2));
            assert!(empty.expect_err("has no text").starts_with("no `text`"));
            let expected =
                [vec![text(0, "one"), text(1, "caf\u{e9}")], vec![text(3, "four\nlines")], vec![text(4, "")]];
            assert_eq!(found, expected, "{compression}");
        }
    }

    #[test]
    fn conversations_and_preferences_are_rows_too() {
        let turn = |role: &str, content: &str| Turn { role: role.to_owned(), content: content.to_owned() };
        let chats = rows(&golden("chats.snappy")).expect("reads").concat();
        let bodies: Vec<_> = chats.into_iter().map(|(_, body)| body.expect("is a chat")).collect();
        assert_eq!(
            bodies,
            [
                Body::Chat(vec![turn("user", "why"), turn("assistant", "so")]),
                Body::Chat(vec![turn("user", "alone")])
            ]
        );
        let pairs = rows(&golden("pairs.snappy")).expect("reads").concat();
        let preference = Body::Preference {
            prompt: vec![turn("user", "why")],
            chosen: "yes".to_owned(),
            rejected: "no".to_owned(),
        };
        assert_eq!(pairs, [(Place::Row(0), Ok(preference))]);
    }

    #[test]
    fn what_can_not_be_read_is_named_and_nothing_panics() {
        let home = tempfile::tempdir().expect("makes a directory");
        let message = |path: &Path| rows(path).expect_err("refused").to_string();
        let packed = message(&golden("texts.zstd"));
        assert!(packed.contains("Disabled feature at compile time: zstd"), "{packed}");
        let other = message(&golden("other.snappy"));
        assert!(
            other.contains("none of the columns `text`, `messages`") && other.contains("it has `body`, `n`"),
            "{other}"
        );
        let whole = fs::read(golden("texts.snappy")).expect("reads");
        let path = home.path().join("damaged.parquet");
        fs::write(&path, &whole[..whole.len() / 2]).expect("writes");
        assert!(message(&path).contains("damaged.parquet: no Parquet file: "), "{}", message(&path));
        fs::write(&path, "text").expect("writes");
        assert!(message(&path).contains("no Parquet file"));
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            fs::write(&path, damaged).expect("writes");
            // It reads, or says why not; a row may come out changed, since pages need not have checksums.
            if let Err(error) = rows(&path) {
                assert!(error.to_string().contains("damaged.parquet"), "{error}");
            }
        }
    }
}

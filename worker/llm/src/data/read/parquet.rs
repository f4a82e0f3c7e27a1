//! Parquet tables, row by row, a row group at a time; only the columns that may hold a document are read.
//!
//! Pages packed with snappy or gzip, or not at all, are read; another compression is refused by name.

use super::{Cut, Fields, Part, Raw, Record, Take, malformed_file};
use crate::data::Error;
use crate::data::documents::Place;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The bytes of each row group, as they lie on the disk.
pub fn row_groups(path: &Path) -> Result<Vec<u64>, Error> {
    guarded(path, || {
        let groups = open(path)?;
        let bytes = groups.metadata().row_groups().iter().map(|group| u64::try_from(group.compressed_size()).unwrap_or(0));
        Ok(bytes.collect())
    })
}

/// Gives the rows of a part's row group.
pub fn read(part: &Part, fields: &Fields, take: &mut Take) -> Result<(), Error> {
    let Cut::RowGroup(group) = part.cut else {
        return Err(malformed_file(&part.path, "a Parquet file is read by row groups"));
    };
    guarded(&part.path, || {
        let failed = |e: ParquetError| malformed_file(&part.path, &format!("read row group {group}: {e}"));
        let file = open(&part.path)?;
        let metadata = file.metadata();
        let rows_of = |group: usize| metadata.row_groups().get(group).map_or(0, |group| u64::try_from(group.num_rows()).unwrap_or(0));
        let first: u64 = (0..group).map(rows_of).sum();
        let rows = file.get_row_group(group).map_err(failed)?;
        let schema = metadata.file_metadata().schema_descr().root_schema();
        let wanted = schema.get_fields().iter().filter(|field| fields.names().contains(&field.name())).cloned().collect::<Vec<_>>();
        if wanted.is_empty() {
            let names: Vec<_> = schema.get_fields().iter().map(|field| format!("`{}`", field.name())).collect();
            let reason = format!("it has none of the columns `{}`; it has {}", fields.names().join("`, `"), names.join(", "));
            return Err(malformed_file(&part.path, &reason));
        }
        let projection = Type::group_type_builder(schema.name()).with_fields(wanted).build().map_err(failed)?;
        for (row, number) in RowIter::from_row_group(Some(projection), rows.as_ref()).map_err(failed)?.zip(first..) {
            let body = fields.of_row(object(row.map_err(failed)?));
            let bytes = body.as_ref().map_or(0, crate::data::documents::Body::bytes);
            let record = Record { place: Place::Row(number), bytes, line: Some(number), raw: Raw::Row(body) };
            if take(record)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, Error> {
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    SerializedFileReader::new(file).map_err(|e| malformed_file(path, &format!("no Parquet file: {e}")))
}

/// The library may panic where a file is damaged; that must end the reading of the file and nothing else.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(malformed_file(path, "no Parquet file that can be read: it is damaged")))
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
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec()).map_or(Value::Bool(false), Value::String),
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => Value::Array(list.elements().iter().cloned().map(value).collect()),
        // No document is made of these: that they are there, and no text, is all that a message says.
        _ => Value::from(0),
    }
}

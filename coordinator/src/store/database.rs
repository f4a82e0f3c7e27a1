//! One sled database: numbered records in checksummed pieces, with a real sync.
//!
//! No other file may name sled. What it works around in sled 0.34.7: `flush` writes but never calls
//! `fdatasync`, so we do it through a descriptor of our own; a page over an eighth or so of its segment
//! becomes a file that is never synced, so pieces are small and segments hold a full page of them; damage may
//! panic, so every call is guarded; after an error it takes no more writes.

use super::error::{corrupt, io_error};
use super::{leftovers, retry};
use muster_host::durable;
use muster_replica::disk::DiskError;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest value: larger records are cut into pieces.
const PIECE_BYTES_MAX: usize = 16 << 10;
const PIECES_MAX: usize = 1 << 14;
/// sled's own segments. A page larger than a quarter of one becomes a file that sled does not sync.
const PAGE_SEGMENT_BYTES: usize = 2 << 20;
/// Values on one page: sled splits a page with more than 16 when it visits it next.
const PAGE_VALUES_MAX: usize = 20;
/// sled's cache per database; it counts pages only roughly.
const CACHE_BYTES: u64 = 8 << 20;

const _: () = assert!(PAGE_VALUES_MAX * (PIECE_BYTES_MAX + 256) < PAGE_SEGMENT_BYTES / 4);

/// Each value begins with its checksum, and the first one continues with the number of pieces.
const CRC_BYTES: usize = 4;
const COUNT_BYTES: usize = 2;
const KEY_BYTES: usize = 10;

#[derive(Debug)]
pub struct Database {
    db: sled::Db,
    /// Our own descriptor of sled's file, for `fdatasync`.
    file: File,
    dir: PathBuf,
    poisoned: AtomicBool,
}

fn config(dir: &Path) -> sled::Config {
    sled::Config::new()
        .path(dir)
        .flush_every_ms(None)
        .cache_capacity(CACHE_BYTES)
        .segment_size(PAGE_SEGMENT_BYTES)
}

fn key(id: u64, piece: u16) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&id.to_be_bytes());
    key[8..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// The checksum covers the key too, so that a misplaced piece is noticed.
fn checksum(key: &[u8], body: &[u8]) -> [u8; CRC_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

/// The body of a value; `None` if its checksum is wrong.
fn verified<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, body) = value.split_at_checked(CRC_BYTES)?;
    (crc == checksum(key, body)).then_some(body)
}

impl Database {
    /// Creates a database, which appears only once its first record is durable.
    pub fn create(dir: &Path, first_id: u64, first_record: &[u8]) -> Result<Database, DiskError> {
        let unfinished = leftovers::unfinished(dir);
        let mut made = Database::open(&unfinished)?;
        made.put(first_id, first_record)?;
        made.sync()?;
        // sled keeps using its descriptor. It needs its path only to open, and for files of large pages,
        // which do not occur.
        leftovers::finish(dir).map_err(|source| io_error(dir, source))?;
        made.dir = dir.to_path_buf();
        Ok(made)
    }

    /// Opens a database, and creates it if it does not exist.
    pub fn open(dir: &Path) -> Result<Database, DiskError> {
        let db = retry::until_free(|| guarded(dir, || config(dir).open()), is_locked)?;
        let open = || {
            let file = File::options().read(true).write(true).open(dir.join("db"))?;
            file.sync_all()?;
            File::open(dir.join("conf"))?.sync_all()?;
            durable::sync_directory(&dir.join("blobs"))?;
            durable::sync_directory(dir)?;
            durable::sync_parent(dir)?;
            Ok(file)
        };
        let file = open().map_err(|source| io_error(dir, source))?;
        Ok(Database { db, file, dir: dir.to_path_buf(), poisoned: AtomicBool::new(false) })
    }

    /// Writes a record atomically. It is durable after the next [`Database::sync`]. Returns its size in bytes
    /// with keys and checksums.
    pub fn put(&self, id: u64, record: &[u8]) -> Result<usize, DiskError> {
        let mut pieces = record.chunks(PIECE_BYTES_MAX - CRC_BYTES - COUNT_BYTES);
        let count = pieces.len().max(1);
        assert!(
            count <= PIECES_MAX,
            "a record of {} bytes is over every limit of what is written",
            record.len()
        );
        let mut values = Vec::with_capacity(count);
        for number in 0..count as u16 {
            let key = key(id, number);
            let piece = pieces.next().unwrap_or_default();
            let mut value = Vec::with_capacity(CRC_BYTES + COUNT_BYTES + piece.len());
            value.extend_from_slice(&[0; CRC_BYTES]);
            if number == 0 {
                value.extend_from_slice(&(count as u16).to_le_bytes());
            }
            value.extend_from_slice(piece);
            let crc = checksum(&key, &value[CRC_BYTES..]);
            value[..CRC_BYTES].copy_from_slice(&crc);
            values.push((key, value));
        }
        let bytes = values.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.write(|| {
            if let [(key, value)] = &mut values[..] {
                return self.db.insert(*key, std::mem::take(value)).map(|_| ());
            }
            let mut batch = sled::Batch::default();
            for (key, value) in values.drain(..) {
                batch.insert(&key, value);
            }
            self.db.apply_batch(batch)
        })?;
        Ok(bytes)
    }

    /// Makes everything written so far durable.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.write(|| {
            self.db.flush()?;
            Ok(self.file.sync_data()?)
        })
    }

    /// `None` if there is no such record.
    pub fn get(&self, id: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let value = |number: u16| guarded(&self.dir, || self.db.get(key(id, number)));
        let Some(first) = value(0)? else { return Ok(None) };
        let (count, mut record) = self.first_piece(id, &first)?;
        for number in 1..count {
            let piece = value(number)?.ok_or_else(|| self.damaged(id, number, "it is missing"))?;
            record.extend_from_slice(self.piece(id, number, &piece)?);
        }
        Ok(Some(record))
    }

    /// Reads every record, in the order of their numbers.
    pub fn scan(
        &self,
        mut visit: impl FnMut(u64, Vec<u8>) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut values = self.db.iter();
        let mut next = || guarded(&self.dir, || values.next().transpose());
        while let Some((first_key, first)) = next()? {
            let (id, number) = self.parse_key(&first_key)?;
            if number != 0 {
                return Err(self.damaged(id, 0, "it is missing"));
            }
            let (count, mut record) = self.first_piece(id, &first)?;
            for number in 1..count {
                let (found_key, value) = next()?.ok_or_else(|| self.damaged(id, number, "it is missing"))?;
                if *found_key != key(id, number) {
                    return Err(self.damaged(id, number, "it is missing"));
                }
                record.extend_from_slice(self.piece(id, number, &value)?);
            }
            visit(id, record)?;
        }
        Ok(())
    }

    /// The place of a record, for messages.
    pub fn place(&self, id: u64) -> String {
        format!("{} record {id}", self.dir.display())
    }

    fn parse_key(&self, key: &[u8]) -> Result<(u64, u16), DiskError> {
        let parsed = key
            .split_at_checked(8)
            .and_then(|(id, number)| Some((id.try_into().ok()?, number.try_into().ok()?)));
        let (id, number) = parsed.ok_or_else(|| {
            corrupt(self.dir.display().to_string(), format!("a key of {} bytes is not ours", key.len()))
        })?;
        Ok((u64::from_be_bytes(id), u16::from_be_bytes(number)))
    }

    fn first_piece(&self, id: u64, value: &[u8]) -> Result<(u16, Vec<u8>), DiskError> {
        let (count, body) = self
            .piece(id, 0, value)?
            .split_at_checked(COUNT_BYTES)
            .ok_or_else(|| self.damaged(id, 0, "it is too short"))?;
        Ok((u16::from_le_bytes([count[0], count[1]]), body.to_vec()))
    }

    fn piece<'a>(&self, id: u64, number: u16, value: &'a [u8]) -> Result<&'a [u8], DiskError> {
        verified(&key(id, number), value).ok_or_else(|| self.damaged(id, number, "its checksum does not fit"))
    }

    fn damaged(&self, id: u64, number: u16, what: &str) -> DiskError {
        corrupt(format!("{} piece {number}", self.place(id)), what)
    }

    fn write<T>(&self, operation: impl FnOnce() -> sled::Result<T>) -> Result<T, DiskError> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(DiskError::Poisoned { place: self.dir.display().to_string() });
        }
        let result = guarded(&self.dir, operation);
        self.poisoned.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    }

    /// Whether sled has put anything into files that are never synced: it must not.
    #[cfg(test)]
    pub fn has_unsynced_files(&self) -> bool {
        fs::read_dir(self.dir.join("blobs")).is_ok_and(|mut files| files.next().is_some())
    }

    /// Breaks one byte of a record's first piece, past all of sled's own checksums.
    #[cfg(test)]
    pub fn damage(&self, id: u64) {
        let mut value = self.db.get(key(id, 0)).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        self.db.insert(key(id, 0), value).unwrap();
        self.sync().unwrap();
    }
}

/// Whether a database is still locked. This process has the whole data directory, so it can only be locked by
/// its own former handle: sled's threads release it shortly after the last handle is dropped.
fn is_locked(error: &DiskError) -> bool {
    matches!(error, DiskError::Io { source, .. } if source.to_string().contains("could not acquire lock"))
}

pub fn exists(dir: &Path) -> bool {
    fs::exists(dir.join("db")).unwrap_or(true)
}

/// Calls sled and maps its errors. It panics on some kinds of damage; the database is not used after that.
fn guarded<T>(dir: &Path, operation: impl FnOnce() -> sled::Result<T>) -> Result<T, DiskError> {
    match catch_unwind(AssertUnwindSafe(operation)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(source))) => Err(io_error(dir, source)),
        Ok(Err(error)) => Err(corrupt(dir.display().to_string(), error.to_string())),
        Err(panic) => {
            let said =
                panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(corrupt(
                dir.display().to_string(),
                format!("the database cannot be used: {}", said.unwrap_or("it panicked")),
            ))
        }
    }
}

/// An error for a database that should exist.
pub fn missing(dir: &Path) -> DiskError {
    io_error(dir, io::Error::from(io::ErrorKind::NotFound))
}

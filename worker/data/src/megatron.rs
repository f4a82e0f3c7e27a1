//! The indexed dataset of Megatron-LM: sequences of integers in `.bin`, and their lengths, places and
//! documents in `.idx`.
//!
//! The layout, all little-endian, as NVIDIA's Megatron-LM reads it
//! (`megatron/core/datasets/indexed_dataset.py`): nine bytes `MMIDIDX\0\0`, version 1 as u64, a code of the
//! number type as u8, the count of sequences and the count of document marks as u64; then a length in
//! elements per sequence as i32, a place in bytes per sequence as i64, and the marks as i64: 0, then for each
//! document the sequence that it ends before. It must never read more than the bytes it was given; a file is
//! held in memory whole.

use super::Error;

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
const VERSION: u64 = 1;
/// Bytes before the lengths: magic, version, number type, two counts.
const HEADER_BYTES: usize = 9 + 8 + 1 + 8 + 8;
/// More sequences in one file are refused.
const SEQUENCES_MAX: usize = 1 << 28;

/// The number types that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// Loss masks.
    U8,
    /// Tokens of vocabularies up to 65,536.
    U16,
    /// Tokens of larger ones.
    I32,
}

impl DType {
    /// The narrowest type for token ids below `vocab_size`.
    #[must_use]
    pub fn of_tokens(vocab_size: u32) -> Self {
        if vocab_size <= 1 << 16 { Self::U16 } else { Self::I32 }
    }

    /// Bytes of an element.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::I32 => 4,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::U8 => 1,
            Self::U16 => 8,
            Self::I32 => 4,
        }
    }
}

/// The two files of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The elements.
    pub bin: Vec<u8>,
    /// Where the sequences and documents are.
    pub idx: Vec<u8>,
}

/// A dataset being written.
#[derive(Clone, Debug)]
pub struct IndexedDatasetWriter {
    dtype: DType,
    bin: Vec<u8>,
    sizes: Vec<i32>,
    documents: Vec<i64>,
}

impl IndexedDatasetWriter {
    /// An empty dataset.
    #[must_use]
    pub fn new(dtype: DType) -> Self {
        Self { dtype, bin: Vec::new(), sizes: Vec::new(), documents: vec![0] }
    }

    /// Appends a sequence to the document that is open.
    ///
    /// # Errors
    /// When it has more elements than the layout can count, or there are too many sequences.
    pub fn push(&mut self, elements: &[u32]) -> Result<(), Error> {
        let size = i32::try_from(elements.len()).ok().filter(|_| self.sizes.len() < SEQUENCES_MAX);
        let size = size.ok_or_else(|| {
            Error::Parameters(format!("{} elements are too many for one sequence", elements.len()))
        })?;
        self.sizes.push(size);
        self.bin.reserve(elements.len() * self.dtype.width());
        match self.dtype {
            DType::U8 => self.bin.extend(elements.iter().map(|element| element.to_le_bytes()[0])),
            DType::U16 => {
                elements.iter().for_each(|element| self.bin.extend_from_slice(&element.to_le_bytes()[..2]))
            }
            DType::I32 => {
                elements.iter().for_each(|element| self.bin.extend_from_slice(&element.to_le_bytes()))
            }
        }
        Ok(())
    }

    /// The sequences since the last call are one document.
    pub fn end_document(&mut self) {
        self.documents.push(self.sizes.len() as i64);
    }

    /// The two files.
    #[must_use]
    pub fn finish(self) -> Files {
        let mut idx = Vec::with_capacity(HEADER_BYTES + self.sizes.len() * 12 + self.documents.len() * 8);
        idx.extend_from_slice(MAGIC);
        idx.extend_from_slice(&VERSION.to_le_bytes());
        idx.push(self.dtype.code());
        idx.extend_from_slice(&(self.sizes.len() as u64).to_le_bytes());
        idx.extend_from_slice(&(self.documents.len() as u64).to_le_bytes());
        for size in &self.sizes {
            idx.extend_from_slice(&size.to_le_bytes());
        }
        let mut place = 0i64;
        for size in &self.sizes {
            idx.extend_from_slice(&place.to_le_bytes());
            place += i64::from(*size) * self.dtype.width() as i64;
        }
        for mark in &self.documents {
            idx.extend_from_slice(&mark.to_le_bytes());
        }
        Files { bin: self.bin, idx }
    }
}

/// A dataset that was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedDataset {
    dtype: DType,
    files: Files,
    /// The first element of each sequence, and the end.
    starts: Vec<u64>,
    /// The first sequence of each document, and the end.
    documents: Vec<usize>,
}

impl IndexedDataset {
    /// Reads two files.
    ///
    /// # Errors
    /// What is wrong with the index, or between the two; the caller knows their names.
    pub fn open(files: Files) -> Result<Self, String> {
        let mut rest = Reader { bytes: &files.idx };
        if rest.take(MAGIC.len())? != MAGIC {
            return Err("it does not begin with MMIDIDX".to_owned());
        }
        let version = rest.u64()?;
        if version != VERSION {
            return Err(format!("it is of version {version}, and {VERSION} is known"));
        }
        let code = rest.take(1)?[0];
        let dtype = [DType::U8, DType::U16, DType::I32].into_iter().find(|dtype| dtype.code() == code);
        let dtype =
            dtype.ok_or_else(|| format!("number type {code} is none of uint8 (1), int32 (4), uint16 (8)"))?;
        let (sequences, marks) = (rest.u64()?, rest.u64()?);
        let expected = u128::from(sequences) * 12 + u128::from(marks) * 8;
        if expected != rest.bytes.len() as u128 {
            return Err(format!(
                "{sequences} sequences and {marks} document marks take {expected} bytes, and {} follow",
                rest.bytes.len()
            ));
        }
        // Both counts fit: they are of bytes that are here.
        let (sizes, rest) = rest.bytes.split_at(sequences as usize * 4);
        let (places, marks) = rest.split_at(sequences as usize * 8);
        let mut starts = vec![0u64];
        let mut next = 0u64;
        for (number, (size, place)) in sizes.chunks_exact(4).zip(places.chunks_exact(8)).enumerate() {
            let (size, place) = (i32::from_le_bytes(array(size)), i64::from_le_bytes(array(place)));
            let size = u64::try_from(size).map_err(|_| format!("sequence {number} has {size} elements"))?;
            if u64::try_from(place) != Ok(next * dtype.width() as u64) {
                return Err(format!("sequence {number} is at byte {place}, not behind the one before it"));
            }
            next += size;
            starts.push(next);
        }
        if next.checked_mul(dtype.width() as u64) != Some(files.bin.len() as u64) {
            return Err(format!(
                "it names {next} elements of {} bytes, and the data has {} bytes",
                dtype.width(),
                files.bin.len()
            ));
        }
        let marks: Vec<i64> = marks.chunks_exact(8).map(|mark| i64::from_le_bytes(array(mark))).collect();
        let documents: Vec<usize> = marks.iter().filter_map(|mark| usize::try_from(*mark).ok()).collect();
        let whole = documents.len() == marks.len()
            && documents.first() == Some(&0)
            && documents.last() == Some(&(sequences as usize));
        if !whole || !documents.is_sorted() {
            return Err(format!("its document marks do not lead from 0 to {sequences} in order"));
        }
        Ok(Self { dtype, files, starts, documents })
    }

    /// The number type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Where each sequence begins, by element, and the end of the last: one number more than sequences.
    #[must_use]
    pub fn starts(&self) -> &[u64] {
        &self.starts
    }

    /// Which sequence each document begins with, and the number of sequences: one number more than documents.
    #[must_use]
    pub fn documents(&self) -> &[usize] {
        &self.documents
    }

    /// The elements from a position on; none when it is past the end.
    pub fn from(&self, position: u64) -> impl Iterator<Item = u32> {
        let width = self.dtype.width();
        let skipped = usize::try_from(position).ok().and_then(|position| position.checked_mul(width));
        let bytes = skipped.and_then(|skipped| self.files.bin.get(skipped..)).unwrap_or_default();
        bytes
            .chunks_exact(width)
            .map(|element| element.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte)))
    }
}

/// `bytes` as an array: the caller cut them to its length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.bytes.split_at_checked(count).ok_or("it ends within its header")?;
        self.bytes = rest;
        Ok(head)
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(array(self.take(8)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dtype: DType) -> Files {
        let mut writer = IndexedDatasetWriter::new(dtype);
        for sequence in [&[1, 2, 3][..], &[], &[200, 0]] {
            writer.push(sequence).expect("fits");
        }
        writer.end_document();
        writer.push(&[7]).expect("fits");
        writer.end_document();
        writer.finish()
    }

    #[test]
    fn bytes_are_those_of_the_layout() {
        let files = written(DType::U16);
        assert_eq!(files.bin, [1, 0, 2, 0, 3, 0, 200, 0, 0, 0, 7, 0]);
        let mut expected = b"MMIDIDX\0\0".to_vec();
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 8, 4, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([3i32, 0, 2, 1].iter().flat_map(|size| size.to_le_bytes()));
        expected.extend([0i64, 6, 6, 10, 0, 3, 4].iter().flat_map(|number| number.to_le_bytes()));
        assert_eq!(files.idx, expected);
    }

    #[test]
    fn what_is_written_comes_back() {
        for dtype in [DType::U8, DType::U16, DType::I32] {
            let files = written(dtype);
            let read = IndexedDataset::open(files.clone()).expect("reads");
            assert_eq!((read.dtype(), read.elements(), read.files()), (dtype, 6, &files));
            assert_eq!((read.starts(), read.documents()), (&[0, 3, 3, 5, 6][..], &[0, 3, 4][..]));
            assert_eq!(read.from(2).collect::<Vec<_>>(), [3, 200, 0, 7]);
            assert_eq!(read.from(7).count(), 0);
        }
        let empty = IndexedDataset::open(IndexedDatasetWriter::new(DType::U16).finish()).expect("reads");
        assert_eq!((empty.elements(), empty.documents()), (0, &[0][..]));
    }

    #[test]
    fn damage_is_named() {
        type Break = fn(&mut Files);
        let table: [(&str, Break); 9] = [
            ("does not begin with MMIDIDX", |f| f.idx[0] = b'X'),
            ("of version 2", |f| f.idx[9] = 2),
            ("number type 5", |f| f.idx[17] = 5),
            ("ends within its header", |f| f.idx.truncate(30)),
            ("bytes, and", |f| f.idx.truncate(60)),
            ("bytes, and", |f| f.idx[25] = 0xff),
            ("is at byte", |f| f.idx[34] = 4),
            ("the data has 11 bytes", |f| f.bin.truncate(11)),
            ("document marks", |f| f.idx[34 + 16 + 32 + 8] = 5),
        ];
        for (expected, break_it) in table {
            let mut files = written(DType::U16);
            break_it(&mut files);
            let message = IndexedDataset::open(files).expect_err(expected);
            assert!(message.contains(expected), "{message}");
        }
    }
}

//! Reads what was recorded, and says how far numbers are apart.

use muster_llm::model::{Decoder, hub};
use muster_llm::ops::linear_cross_entropy::{IGNORE_INDEX, LossTargets};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Largest difference of a tensor's numbers over its largest number.
pub const TOLERANCE: f64 = 1e-4;

/// A label that transformers ignores.
const IGNORED_LABEL: i64 = -100;

/// Where the recordings are.
pub fn golden() -> PathBuf {
    env::var_os("MUSTER_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

/// The directories of one part of the recordings, in order.
pub fn directories(part: &str) -> Vec<PathBuf> {
    let root = golden().join(part);
    let entries = fs::read_dir(&root).unwrap_or_else(|e| panic!("{} is there: {e}", root.display()));
    let mut directories: Vec<PathBuf> =
        entries.map(|entry| entry.expect("can be listed").path()).filter(|path| path.is_dir()).collect();
    directories.sort();
    assert!(!directories.is_empty(), "{} holds recordings", root.display());
    directories
}

/// A directory's name.
pub fn name(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A model whose every weight is trained, from a recorded checkpoint.
pub fn model(directory: &Path) -> Decoder {
    let (config, flat) =
        hub::load_dir(directory).unwrap_or_else(|e| panic!("failed to {e} ({})", directory.display()));
    Decoder::trained(config, &flat).expect("builds")
}

/// The named arrays of one file.
pub struct Recording {
    floats: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    integers: BTreeMap<String, (Vec<usize>, Vec<i64>)>,
}

impl Recording {
    /// Reads a safetensors file of f32, f64 and i64.
    pub fn open(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{} is there: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).expect("is a safetensors file");
        let (mut floats, mut integers) = (BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in file.tensors() {
            let (shape, data) = (tensor.shape().to_vec(), tensor.data());
            match tensor.dtype() {
                Dtype::F32 => {
                    let numbers = data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                    floats.insert(name, (shape, numbers));
                }
                Dtype::F64 => {
                    let numbers =
                        data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect();
                    floats.insert(name, (shape, numbers));
                }
                Dtype::I64 => {
                    integers.insert(
                        name,
                        (shape, data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
                    );
                }
                other => panic!("{name} is {other:?}, which no script records"),
            }
        }
        Self { floats, integers }
    }

    /// Numbers.
    pub fn floats(&self, name: &str) -> &[f32] {
        &self.floats.get(name).unwrap_or_else(|| panic!("{name} was recorded")).1
    }

    /// A single number.
    pub fn float(&self, name: &str) -> f64 {
        f64::from(self.floats(name)[0])
    }

    /// Dimensions and numbers.
    pub fn integers(&self, name: &str) -> (&[usize], &[i64]) {
        let (shape, numbers) = self.integers.get(name).unwrap_or_else(|| panic!("{name} was recorded"));
        (shape, numbers)
    }

    /// Tokens, with the batch and the time that they have.
    pub fn tokens(&self, name: &str) -> (Vec<u32>, usize, usize) {
        let (shape, numbers) = self.integers(name);
        let [batch, time] = *shape else { panic!("{name} has rows") };
        (numbers.iter().map(|token| u32::try_from(*token).expect("is a token")).collect(), batch, time)
    }

    /// The targets that transformers makes of labels: each position's is the next position's label, and their
    /// mean counts.
    pub fn targets(&self, labels: &str) -> LossTargets {
        let (shape, numbers) = self.integers(labels);
        LossTargets::mean(shifted(numbers, shape[1]))
    }

    /// The gradients that were recorded under a prefix: name and numbers.
    pub fn gradients<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [f32])> {
        self.floats
            .iter()
            .filter_map(move |(name, (_, numbers))| Some((name.strip_prefix(prefix)?, numbers.as_slice())))
    }
}

/// What each position of rows of `time` labels predicts: the next label, and nothing at a row's end.
pub fn shifted(labels: &[i64], time: usize) -> Vec<u32> {
    let of = |label: &i64| {
        if *label == IGNORED_LABEL { IGNORE_INDEX } else { u32::try_from(*label).expect("is a label") }
    };
    labels.chunks(time).flat_map(|row| row[1..].iter().map(of).chain([IGNORE_INDEX])).collect()
}

/// Fails if numbers are further apart than the tolerance.
pub fn close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}: as many numbers as theirs");
    assert!(ours.iter().all(|x| x.is_finite()), "{what}: all are numbers");
    let largest = theirs.iter().fold(0f64, |largest, x| largest.max(f64::from(x.abs())));
    assert!(largest > 0.0, "{what}: theirs are not all zero");
    let apart =
        ours.iter().zip(theirs).fold(0f64, |apart, (a, b)| apart.max((f64::from(*a) - f64::from(*b)).abs()));
    assert!(
        apart <= TOLERANCE * largest,
        "{what}: {:.1e} apart, relative to the largest number",
        apart / largest
    );
}

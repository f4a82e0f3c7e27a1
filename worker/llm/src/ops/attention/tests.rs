//! Attention composed of candle's operations, compared with that on slices: the result and every gradient.

use super::{AttentionShape, Heads, KeyValuePrefix, attention, composed};
use crate::autograd::{GradientBuffer, Slot, Tape, Weight};
use crate::device::{Backend, BlockSizes};
use crate::ops::BatchLayout;
use crate::ops::rope::RotaryEmbedding;
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// Queries per block: few, so that short sequences have several blocks.
const BLOCK: usize = 16;

fn drawn(rows: usize, width: usize, salt: f32) -> Tensor {
    let numbers: Vec<f32> =
        (0..rows * width).map(|i| ((i * i % 977) as f32 * 0.37 + i as f32 * 0.11 + salt).sin()).collect();
    Tensor::from_vec(numbers, (rows, width), &Device::Cpu).expect("fits")
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("reads")
}

/// The result, and the gradients of queries, keys, values and the prefix.
fn all(shape: &AttentionShape, before: usize, backend: Backend) -> Vec<Vec<f32>> {
    let (count, key_value) = (shape.rows.count(), shape.heads.key_value * shape.heads.dim);
    let slot = |index: usize| {
        let (name, len) = (["keys", "values"][index].to_owned(), before * key_value);
        Slot { name, shape: vec![before, key_value], index, start: index * len, len }
    };
    let prefix = (before > 0).then(|| KeyValuePrefix {
        keys: Weight::trained(drawn(before, key_value, 5.0), slot(0)),
        values: Weight::trained(drawn(before, key_value, 6.0), slot(1)),
    });
    let slots: Arc<[Slot]> = if before > 0 { Arc::new([slot(0), slot(1)]) } else { Arc::new([]) };
    let mut tape = Tape::recording(GradientBuffer::on_host(slots, Vec::new()), backend);
    let q = tape.leaf(drawn(count, shape.heads.query * shape.heads.dim, 1.0));
    let [k, v] = [2.0, 3.0].map(|salt| tape.leaf(drawn(count, key_value, salt)));
    let out = attention(&mut tape, &q, &k, &v, shape, prefix.as_ref()).expect("attends");
    let slope = drawn(count, shape.heads.query * shape.heads.dim, 4.0);
    let (gradients, found) = tape.backward_to(&out, slope, &[&q, &k, &v]).expect("goes back");
    let inputs = found.iter().map(|found| numbers(found.as_ref().expect("has a gradient")));
    let mut all = vec![numbers(out.data())];
    all.extend(inputs);
    all.push(gradients.into_vec().expect("reads"));
    all
}

/// Query heads, key and value heads, width, sequences, positions, prefix, starts of documents.
type Case<'a> = (usize, usize, usize, usize, usize, usize, &'a [u32]);

#[test]
fn blocks_of_queries_give_what_slices_give() {
    let table: [Case<'_>; 9] = [
        (4, 2, 8, 2, 1, 0, &[]),
        (4, 2, 8, 2, 15, 0, &[]),
        (6, 1, 4, 1, 16, 0, &[]),
        (4, 4, 8, 3, 17, 0, &[]),
        (4, 2, 8, 2, 100, 0, &[0, 3, 40, 41, 96]),
        (2, 1, 16, 1, 64, 0, &[0, 32]),
        (4, 2, 8, 2, 33, 5, &[]),
        (6, 2, 4, 2, 50, 3, &[0, 17, 49]),
        (2, 2, 8, 1, 1, 1, &[]),
    ];
    for (query, key_value, dim, batch, time, before, documents) in table {
        let heads = Heads { query, key_value, dim };
        let mut rows = BatchLayout::new(batch, time);
        if !documents.is_empty() {
            // Each sequence has its own documents: the second's begin one later.
            let start = |sequence: usize, position: usize| {
                let begun = documents
                    .iter()
                    .map(|start| start + u32::from(*start > 0) * sequence as u32)
                    .filter(|start| *start <= position as u32);
                begun.max().unwrap_or(0)
            };
            rows.starts = Some(
                (0..batch)
                    .flat_map(|sequence| (0..time).map(move |position| start(sequence, position)))
                    .collect(),
            );
        }
        let frequencies: Vec<f64> =
            (0..dim / 2).map(|pair| 100f64.powf(-(2.0 * pair as f64) / dim as f64)).collect();
        let shape = AttentionShape {
            heads,
            rows,
            rotation: Arc::new(RotaryEmbedding::new(&frequencies, time + before + 7, 1.0)),
        };
        let slices = all(&shape, before, Backend::Fused);
        let sizes = BlockSizes { queries: BLOCK, ..BlockSizes::default() };
        let blocks = all(&shape, before, Backend::Composed(sizes));
        for (part, (ours, theirs)) in
            ["result", "q", "k", "v", "prefix"].iter().zip(blocks.iter().zip(&slices))
        {
            let norm = theirs.iter().map(|x| x * x).sum::<f32>().sqrt();
            let off = ours.iter().zip(theirs).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt();
            // A single position's softmax is 1 for any score: queries and keys then have no gradient.
            assert!(
                ours.len() == theirs.len() && off <= 1e-5 * norm + 1e-6,
                "{heads:?} {time} {before} {part}: off by {off} of {norm}"
            );
        }
    }
}

#[test]
fn what_a_block_needs_grows_with_the_time_and_not_with_its_square() {
    let heads = Heads { query: 32, key_value: 8, dim: 128 };
    let needs = |batch: usize, time: usize| composed::bytes(batch, time, heads, BLOCK);
    for (batch, time) in [(1, 1 << 12), (8, 1 << 12), (1, 1 << 15), (4, 1 << 17)] {
        let (one, two) = (needs(batch, time), needs(batch, 2 * time));
        assert!(two <= 2 * one, "{batch} of {time}: {one}, then {two}");
    }
    assert!(needs(8, 1 << 17) < 2_000_000_000);
}

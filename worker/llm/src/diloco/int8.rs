//! Deltas as int8: blocks of elements, each with its own scale (absmax quantisation, as in Dettmers et al.
//! 2022, <https://arxiv.org/abs/2110.02861>, with a linear code).
//!
//! A delta takes a quarter of its f32 size; the error of an element is at most half of 1/127 of its block's
//! greatest magnitude. Rounding is to nearest, ties to even, so the same delta gives the same bytes
//! everywhere.

use super::Error;
use muster_host::durable;

/// Elements that share a scale.
pub const BLOCK: usize = 1024;
/// First bytes of an encoded delta, with its version.
const MAGIC: [u8; 4] = *b"MI8\x01";
/// Bytes before the scales: the magic and the count of numbers.
const HEAD_BYTES: usize = 12;
/// The greatest code. -128 is not used, so that codes are symmetric.
const CODE_MAX: f32 = 127.0;

/// A quantised vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8Delta {
    /// One for each [`BLOCK`] of codes.
    scales: Vec<f32>,
    /// One for each number.
    codes: Vec<i8>,
}

impl Int8Delta {
    /// Quantises `numbers`.
    ///
    /// # Errors
    /// When one of them is NaN or infinite.
    pub fn quantise(numbers: &[f32]) -> Result<Int8Delta, Error> {
        let mut quantised = Int8Delta {
            scales: Vec::with_capacity(numbers.len().div_ceil(BLOCK)),
            codes: vec![0; numbers.len()],
        };
        for (place, (block, codes)) in
            numbers.chunks(BLOCK).zip(quantised.codes.chunks_mut(BLOCK)).enumerate()
        {
            // Zero for a NaN, which the check below finds.
            let greatest = block.iter().fold(0f32, |greatest, x| greatest.max(x.abs()));
            if !block.iter().all(|x| x.is_finite()) {
                return Err(Error::Delta(format!("a number of block {place} is not finite")));
            }
            let scale = greatest / CODE_MAX;
            // If the scale was rounded up, scale * 127 may overflow.
            let scale = if (scale * CODE_MAX).is_finite() { scale } else { scale.next_down() };
            quantised.scales.push(scale);
            // The scale is also zero when the greatest number is too small to be divided: the block rounds to
            // zeros.
            if scale > 0.0 {
                for (code, x) in codes.iter_mut().zip(block) {
                    *code = (x / scale).round_ties_even().clamp(-CODE_MAX, CODE_MAX) as i8;
                }
            }
        }
        Ok(quantised)
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// Scales and codes, block by block.
    pub fn blocks(&self) -> impl Iterator<Item = (f32, &[i8])> {
        self.scales.iter().copied().zip(self.codes.chunks(BLOCK))
    }

    /// The dequantised elements.
    #[must_use]
    pub fn numbers(&self) -> Vec<f32> {
        self.blocks()
            .flat_map(|(scale, codes)| codes.iter().map(move |code| f32::from(*code) * scale))
            .collect()
    }

    /// As bytes: magic, count as `u64`, scales, codes; little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.scales.len() * 4 + self.codes.len());
        bytes.extend(MAGIC);
        bytes.extend((self.codes.len() as u64).to_le_bytes());
        self.scales.iter().for_each(|scale| bytes.extend_from_slice(&scale.to_le_bytes()));
        bytes.extend(self.codes.iter().map(|code| code.cast_unsigned()));
        bytes
    }

    /// Reads what [`Int8Delta::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the length is not the one announced, a scale is negative, NaN or infinite, or a code is -128,
    /// which rounding never gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Int8Delta, Error> {
        let wrong = |reason: String| Error::Delta(reason);
        let (head, rest) = bytes
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or_else(|| wrong(format!("{} bytes are too few", bytes.len())))?;
        let (magic, count) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(wrong(format!("it begins with {magic:?} instead of {MAGIC:?}")));
        }
        let count = count.iter().rev().fold(0u64, |count, byte| count << 8 | u64::from(*byte));
        // What is there decides, not what is announced.
        let blocks = usize::try_from(count)
            .ok()
            .filter(|count| *count <= rest.len())
            .map(|count| count.div_ceil(BLOCK));
        let fits = blocks.is_some_and(|blocks| blocks * 4 + count as usize == rest.len());
        let (Some(blocks), true) = (blocks, fits) else {
            return Err(wrong(format!(
                "{} bytes after the head are not those of {count} numbers",
                rest.len()
            )));
        };
        let (scales, codes) = rest.split_at(blocks * 4);
        let scales: Vec<f32> =
            scales.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if let Some(place) = scales.iter().position(|scale| !scale.is_finite() || scale.is_sign_negative()) {
            return Err(wrong(format!("the scale of block {place} is {}", scales[place])));
        }
        let codes: Vec<i8> = codes.iter().map(|byte| byte.cast_signed()).collect();
        if let Some(place) = codes.iter().position(|code| *code == i8::MIN) {
            return Err(wrong(format!("number {place} has the code {}, which no rounding gives", i8::MIN)));
        }
        Ok(Int8Delta { scales, codes })
    }

    /// The hash of its bytes, which names it in a round's record.
    #[must_use]
    pub fn hash(&self) -> String {
        durable::hash(&self.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 31 + 7) as f32).sin() * 10f32.powi((i / BLOCK) as i32 - 3)).collect()
    }

    #[test]
    fn numbers_come_back_within_half_a_step_of_their_block() {
        for count in [0, 1, 3, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17] {
            let numbers = delta(count);
            let quantised = Int8Delta::quantise(&numbers).expect("is finite");
            let back = quantised.numbers();
            assert_eq!(back.len(), count);
            for (block, back) in numbers.chunks(BLOCK).zip(back.chunks(BLOCK)) {
                let greatest = block.iter().fold(0f32, |greatest, x| greatest.max(x.abs()));
                let worst = block.iter().zip(back).map(|(x, y)| (x - y).abs()).fold(0f32, f32::max);
                assert!(worst <= greatest / CODE_MAX * 0.5001, "{worst} of {greatest}");
            }
            let bytes = quantised.to_bytes();
            assert!(bytes.len() <= HEAD_BYTES + count + count / 256 + 4, "{}", bytes.len());
            assert_eq!(Int8Delta::from_bytes(&bytes).expect("is one"), quantised);
            assert_eq!(quantised.hash(), Int8Delta::quantise(&numbers).expect("is finite").hash());
        }
    }

    #[test]
    fn the_edges_of_floats_are_no_trouble() {
        let table: [(&[f32], &[f32]); 4] = [
            (&[0.0, -0.0], &[0.0, 0.0]),
            (&[f32::from_bits(1), 0.0], &[0.0, 0.0]),
            (&[1e38, -1e38, 0.0], &[1e38, -1e38, 0.0]),
            (&[127.0, 0.5, 1.5, -0.5, -1.5], &[127.0, 0.0, 2.0, 0.0, -2.0]),
        ];
        for (numbers, expected) in table {
            assert_eq!(Int8Delta::quantise(numbers).expect("is finite").numbers(), expected);
        }
        let greatest = Int8Delta::quantise(&[f32::MAX, f32::MIN]).expect("is finite").numbers();
        assert!(
            greatest[0] > f32::MAX * 0.99 && greatest[0].is_finite() && greatest[1] == -greatest[0],
            "{greatest:?}"
        );
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(
                Int8Delta::quantise(&[1.0, bad])
                    .is_err_and(|e| e.to_string().contains("block 0 is not finite"))
            );
        }
    }

    #[test]
    fn bytes_that_are_no_delta_are_refused() {
        let bytes = Int8Delta::quantise(&delta(1500)).expect("is finite").to_bytes();
        for cut in [0, 3, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 5, bytes.len() - 1] {
            assert!(Int8Delta::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let change = |at: usize, new: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + new.len()].copy_from_slice(new);
            bytes
        };
        let table = [
            (change(0, b"X"), "begins with"),
            (change(3, &[2]), "begins with"),
            (change(4, &[255; 8]), "are not those of"),
            (change(4, &1499u64.to_le_bytes()), "are not those of"),
            (change(HEAD_BYTES, &f32::NAN.to_le_bytes()), "scale of block 0 is NaN"),
            (change(HEAD_BYTES + 4, &(-1f32).to_le_bytes()), "scale of block 1 is -1"),
            (change(HEAD_BYTES + 8, &[128]), "number 0 has the code -128"),
        ];
        for (bytes, expected) in table {
            let message = Int8Delta::from_bytes(&bytes).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}

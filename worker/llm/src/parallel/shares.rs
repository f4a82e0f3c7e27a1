//! Which logical replicas each rank holds: contiguous ranges in proportion to its speed.
//!
//! Integer arithmetic only, so that every rank on every machine gets the same answer.

use super::Error;
use std::cmp::Reverse;
use std::ops::Range;

/// Shares out `replicas` among the ranks, in proportion to `speeds` (measured throughput in thousandths of
/// any unit, in order of rank).
///
/// The method of largest remainders; of equal remainders the lower rank wins. A rank that would get no
/// replica takes one from the rank that has most. Speeds that are all 0 count as equal. The ranges follow
/// each other from 0 and cover all replicas.
///
/// # Errors
/// When there are no ranks, or more ranks than replicas.
pub fn shares(replicas: usize, speeds: &[u64]) -> Result<Vec<Range<usize>>, Error> {
    let world = speeds.len();
    if world == 0 || replicas < world {
        return Err(Error::Shares { replicas, world });
    }
    let equal = vec![1; world];
    let speeds = if speeds.iter().all(|speed| *speed == 0) { &equal } else { speeds };
    let total: u128 = speeds.iter().map(|speed| u128::from(*speed)).sum();
    // Products of two 64-bit numbers fit in 128 bits.
    let due = speeds.iter().map(|speed| u128::from(*speed) * replicas as u128);
    let (mut counts, remainders): (Vec<usize>, Vec<u128>) =
        due.map(|due| ((due / total) as usize, due % total)).unzip();
    let mut by_remainder: Vec<usize> = (0..world).collect();
    by_remainder.sort_by_key(|rank| (Reverse(remainders[*rank]), *rank));
    let left = replicas - counts.iter().sum::<usize>();
    for rank in by_remainder.into_iter().take(left) {
        counts[rank] += 1;
    }
    while let Some(poor) = counts.iter().position(|count| *count == 0) {
        let most = counts.iter().copied().max().unwrap_or_default();
        if let Some(rich) = counts.iter().position(|count| *count == most) {
            counts[rich] -= 1;
            counts[poor] += 1;
        }
    }
    let ends = counts.iter().scan(0, |end, count| {
        *end += count;
        Some(*end)
    });
    Ok(ends.zip(&counts).map(|(end, count)| end - count..end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_speeds() {
        let table: [(usize, &[u64], &[usize]); 10] = [
            (8, &[1, 1], &[4, 4]),
            (8, &[0, 0, 0, 0], &[2, 2, 2, 2]),
            (7, &[5, 5], &[4, 3]),
            (8, &[3000, 1000], &[6, 2]),
            (8, &[1000, 3000], &[2, 6]),
            (10, &[1, 1, 1], &[4, 3, 3]),
            (4, &[1_000_000, 1, 1], &[2, 1, 1]),
            (3, &[0, 0, 9], &[1, 1, 1]),
            (1, &[7], &[1]),
            (16, &[u64::MAX, u64::MAX / 3], &[12, 4]),
        ];
        for (replicas, speeds, expected) in table {
            let counts: Vec<usize> =
                shares(replicas, speeds).expect("fits").into_iter().map(|range| range.len()).collect();
            assert_eq!(counts, expected, "{replicas} by {speeds:?}");
        }
        assert!(shares(3, &[1; 4]).is_err_and(|e| e.to_string().contains("3 replicas among 4 ranks")));
        assert!(shares(3, &[]).is_err());
    }

    #[test]
    fn ranges_cover_all_and_leave_nobody_out() {
        for replicas in 1..40 {
            for world in 1..=replicas.min(9) {
                let speeds: Vec<u64> = (0..world as u64).map(|rank| rank * rank * 37 % 11 * 1000).collect();
                let ranges = shares(replicas, &speeds).expect("fits");
                let mut next = 0;
                for range in &ranges {
                    assert!(range.start == next && !range.is_empty(), "{ranges:?}");
                    next = range.end;
                }
                assert_eq!((next, ranges.len()), (replicas, world));
            }
        }
    }
}

//! Every partition of every number of replicas, against a tree that is written down another way.

use super::*;

/// The tree by its definition: halve, and skip what is absent.
fn by_definition(leaves: &[f32], first: usize, width: usize) -> Option<f32> {
    if first >= leaves.len() {
        return None;
    }
    if width == 1 {
        return Some(leaves[first]);
    }
    let left = by_definition(leaves, first, width / 2)?;
    Some(by_definition(leaves, first + width / 2, width / 2).map_or(left, |right| left + right))
}

/// Numbers whose sum depends on the order.
fn leaves(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + 11) as f32).sin() * 10f32.powi((i % 9) as i32 - 4)).collect()
}

fn join(sum: &mut f32, other: f32) {
    *sum += other;
}

fn partials(leaves: &[f32], range: Range<usize>) -> Vec<Partial<f32>> {
    sum::<f32, Error>(range, leaves.len(), |i| Ok(leaves[i]), join).expect("is in range")
}

/// The bits of the whole, when ranks hold the ranges between `cuts`.
fn total(leaves: &[f32], cuts: &[usize]) -> u32 {
    let mut tree = Tree::new(leaves.len());
    for pair in cuts.windows(2) {
        for partial in partials(leaves, pair[0]..pair[1]) {
            tree.push(partial, join).expect("is in order");
        }
    }
    tree.total().expect("is whole").to_bits()
}

#[test]
fn every_partition_gives_the_same_bits() {
    let mut seen = 0;
    for count in 1..=12 {
        let leaves = leaves(count);
        let expected = by_definition(&leaves, 0, count.next_power_of_two()).expect("has leaves").to_bits();
        for mask in 0u32..1 << (count - 1) {
            let mut cuts = vec![0];
            cuts.extend((1..count).filter(|at| mask >> (at - 1) & 1 == 1));
            cuts.push(count);
            assert_eq!(total(&leaves, &cuts), expected, "{count} replicas cut at {cuts:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, (1 << 12) - 1);
    for count in [63, 64, 65, 100, 127, 1000, 4096] {
        let leaves = leaves(count);
        let expected = by_definition(&leaves, 0, count.next_power_of_two()).expect("has leaves").to_bits();
        for world in [1, 2, 3, 4, 7, 16] {
            let cuts: Vec<usize> = (0..=world).map(|rank| rank * count / world).collect();
            assert_eq!(total(&leaves, &cuts), expected, "{count} replicas on {world} ranks");
            let skewed: Vec<usize> = (0..=world).map(|rank| rank * rank * count / (world * world)).collect();
            let skewed: Vec<usize> = skewed
                .into_iter()
                .enumerate()
                .map(|(i, cut)| if i == world { count } else { cut.max(i) })
                .collect();
            assert_eq!(total(&leaves, &skewed), expected, "{count} replicas cut at {skewed:?}");
        }
    }
}

#[test]
fn a_range_is_left_with_the_fewest_nodes() {
    type Node = (usize, usize);
    let table: [(usize, Range<usize>, &[Node]); 9] = [
        (8, 0..8, &[(0, 8)]),
        (8, 4..8, &[(4, 4)]),
        (8, 1..7, &[(1, 1), (2, 2), (4, 2), (6, 1)]),
        (4, 0..3, &[(0, 2), (2, 1)]),
        (3, 0..3, &[(0, 3)]),
        (3, 2..3, &[(2, 1)]),
        (7, 4..7, &[(4, 3)]),
        (7, 2..7, &[(2, 2), (4, 3)]),
        (5, 3..5, &[(3, 1), (4, 1)]),
    ];
    for (count, range, expected) in table {
        let found: Vec<_> =
            partials(&leaves(count), range.clone()).iter().map(|p| (p.first, p.len)).collect();
        assert_eq!(found, expected, "{range:?} of {count}");
    }
}

#[test]
fn few_sums_are_alive_at_a_time() {
    for (count, range) in [(1024, 0..1024), (1024, 512..1024), (1000, 0..1000), (1024, 1..1023)] {
        let mut tree = Tree::new(count);
        let mut most = 0;
        for replica in range.clone() {
            tree.push(Partial::leaf(replica, 1.0), join).expect("is in order");
            most = most.max(tree.stack.len());
        }
        let aligned = range.start.is_multiple_of(512);
        assert!(most <= if aligned { 10 } else { 20 }, "{range:?}: {most}");
    }
}

#[test]
fn what_is_no_node_or_out_of_order_is_refused() {
    let table = [
        ((0, 3), "not a node"),
        ((1, 2), "not a node"),
        ((0, 0), "not a node"),
        ((8, 1), "not a node"),
        ((6, 2), "not a node"),
        ((4, usize::MAX), "not a node"),
    ];
    for ((first, len), expected) in table {
        let message =
            Tree::new(7).push(Partial { first, len, values: 0.0 }, join).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
    let mut tree = Tree::new(7);
    tree.push(Partial { first: 0, len: 2, values: 0.0 }, join).expect("is a node");
    for first in [0, 1, 3] {
        let message = tree.push(Partial::leaf(first, 0.0), join).expect_err("is out of order").to_string();
        assert!(message.contains("does not follow"), "{message}");
    }
    let message = tree.total().expect_err("is not whole").to_string();
    assert_eq!(message, "sum replicas 0..2 of 7: these are not all replicas");
    assert!(Tree::<f32>::new(3).total().is_err());
    for range in [0..0, 2..4, 3..3] {
        assert!(sum::<f32, Error>(range, 3, |_| Ok(0.0), join).is_err());
    }
}

//! Topological order of stages, each after those it needs; finds cycles.

/// Positions in the new order, or a cycle: positions that need each other, the first again at the end.
///
/// `needs[k]` holds positions that `k` needs. Of those that may come next, the first of the file does.
pub fn sort(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut order = Vec::with_capacity(needs.len());
    let mut placed = vec![false; needs.len()];
    while order.len() < needs.len() {
        let ready = |k: &usize| !placed[*k] && needs[*k].iter().all(|need| placed[*need]);
        match (0..needs.len()).find(ready) {
            Some(next) => {
                placed[next] = true;
                order.push(next);
            }
            None => return Err(cycle(needs, &placed)),
        }
    }
    Ok(order)
}

/// Every position that is left needs another one that is left: following them comes to a place for the second
/// time.
fn cycle(needs: &[Vec<usize>], placed: &[bool]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut next = placed.iter().position(|placed| !placed);
    while let Some(at) = next {
        if let Some(first) = path.iter().position(|earlier| *earlier == at) {
            path.drain(..first);
            // It begins with the first of the file, so that the message does not depend on where it was
            // entered.
            let least = path.iter().enumerate().min_by_key(|(_, at)| **at).map_or(0, |(place, _)| place);
            path.rotate_left(least);
            path.extend(path.first().copied());
            return path;
        }
        path.push(at);
        next = needs[at].iter().copied().find(|need| !placed[*need]);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each needs, and the order or the cycle.
    type Row = (&'static [&'static [usize]], Result<&'static [usize], &'static [usize]>);

    #[test]
    fn orders() {
        let table: &[Row] = &[
            (&[], Ok(&[])),
            (&[&[], &[0]], Ok(&[0, 1])),
            (&[&[1], &[]], Ok(&[1, 0])),
            (&[&[2], &[], &[1], &[]], Ok(&[1, 2, 0, 3])),
            (&[&[0]], Err(&[0, 0])),
            (&[&[1], &[2], &[0]], Err(&[0, 1, 2, 0])),
            (&[&[2], &[], &[3], &[2, 1]], Err(&[2, 3, 2])),
        ];
        for (needs, expected) in table {
            let needs: Vec<Vec<usize>> = needs.iter().map(|needs| needs.to_vec()).collect();
            assert_eq!(sort(&needs), expected.map(<[usize]>::to_vec).map_err(<[usize]>::to_vec), "{needs:?}");
        }
    }
}

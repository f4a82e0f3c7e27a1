//! Topological order of stages, each after those it needs; finds cycles.

/// Positions in the new order; or, as the error, a cycle of positions that starts and ends with the same one.
///
/// `needs[k]` holds the positions that `k` needs. Among several possible orders, it keeps that of the file.
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

/// Every remaining position needs another remaining one, so following the needs must reach a position twice.
fn cycle(needs: &[Vec<usize>], placed: &[bool]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut next = placed.iter().position(|placed| !placed);
    while let Some(at) = next {
        if let Some(first) = path.iter().position(|earlier| *earlier == at) {
            path.drain(..first);
            // The cycle starts with its first stage in the file, wherever the search entered it.
            let first =
                path.iter().enumerate().min_by_key(|(_, at)| **at).map_or(0, |(position, _)| position);
            path.rotate_left(first);
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

    /// The needs, and the expected order or cycle.
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

//! Admits numbered messages of a worker to the log once and in order, although any of them may be lost, late
//! or repeated.

#[derive(Clone, Copy, Debug, Default)]
pub struct SeqWindow {
    /// The last number that was proposed.
    accepted: Option<u64>,
    /// The last number that is applied, and so may be acknowledged.
    pub applied: u64,
}

/// What becomes of a numbered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Something before it is missing: the worker will resend from there.
    Gap,
    /// All of it is known, and may be acknowledged again.
    Duplicate,
    /// All but the first `skip` are new; the last number is `last`.
    New { skip: usize, last: u64 },
}

impl SeqWindow {
    /// Classifies a message of `count` records, the first of which has the number `first_seq`.
    pub fn classify(&self, first_seq: u64, oldest_unacked: u64, count: usize) -> Admission {
        if first_seq == 0 {
            return Admission::Gap;
        }
        let Some(last) = first_seq.checked_add(count as u64).map(|end| end - 1) else {
            return Admission::Gap;
        };
        // Some leader has acknowledged everything before the oldest unacknowledged record. It need not have
        // been this one: all that this leader has accepted may be a late message from before its term.
        let acknowledged = oldest_unacked.saturating_sub(1);
        let accepted = self.accepted.map_or(acknowledged, |accepted| accepted.max(acknowledged));
        if first_seq > accepted + 1 || count == 0 {
            Admission::Gap
        } else if last <= accepted {
            Admission::Duplicate
        } else {
            Admission::New { skip: (accepted + 1 - first_seq) as usize, last }
        }
    }

    /// Records up to `last` were proposed.
    pub fn accept(&mut self, last: u64) {
        self.accepted = Some(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_messages_enter_once_and_in_order() {
        // (accepted, first, oldest, count) and what becomes of it.
        let table = [
            (None, 5, 5, 3, Admission::New { skip: 0, last: 7 }),
            (None, 6, 5, 2, Admission::Gap),
            (None, 5, 5, 0, Admission::Gap),
            (Some(7), 8, 5, 1, Admission::New { skip: 0, last: 8 }),
            (Some(7), 5, 5, 5, Admission::New { skip: 3, last: 9 }),
            (Some(7), 5, 5, 3, Admission::Duplicate),
            (Some(7), 10, 9, 1, Admission::Gap),
            (Some(3), 9, 9, 2, Admission::New { skip: 0, last: 10 }),
            (Some(7), 0, 0, 1, Admission::Gap),
            (Some(7), u64::MAX, 1, 2, Admission::Gap),
        ];
        for (accepted, first, oldest, count, expected) in table {
            let window = SeqWindow { accepted, applied: 0 };
            assert_eq!(
                window.classify(first, oldest, count),
                expected,
                "{accepted:?} {first} {oldest} {count}"
            );
        }
    }
}

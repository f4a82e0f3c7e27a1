//! Whole sequences packed into windows, so that fine-tuning wastes few positions and splits no example.
//!
//! First fit in order (as Hugging Face TRL's `bfd`, without sorting): each sequence goes into the first
//! window with room, found by a tree over the windows' free space. The cost is `n log n`, and the result
//! depends on the lengths only. A sequence of `n` tokens takes `n - 1` positions: its last token is only
//! predicted. Attention must be cut at [`Window::starts`].

use super::{Corpus, Error};
use muster_data::pack::TooLong;

/// One row of a batch: as many inputs as targets and flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Input tokens.
    pub inputs: Vec<u32>,
    /// The next token at each position.
    pub targets: Vec<u32>,
    /// Whether the loss counts each target.
    pub learnt: Vec<bool>,
    /// Where a sequence begins: attention must not look back across one. Ascending from 0.
    pub starts: Vec<u32>,
}

impl Window {
    /// For each position, which sequence of the window it belongs to, counted from 0.
    #[must_use]
    pub fn segments(&self) -> Vec<u32> {
        let mut starts = self.starts.iter().skip(1).peekable();
        let mut segment = 0;
        let number = |position: u32| {
            while starts.next_if(|start| **start <= position).is_some() {
                segment += 1;
            }
            segment
        };
        (0..self.inputs.len() as u32).map(number).collect()
    }
}

/// Which sequences share a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    context: usize,
    padding: u32,
    /// For each window, its sequences in order.
    windows: Vec<Vec<u64>>,
    /// Sequences that are cut to the context.
    pub truncated: u64,
    /// Sequences that are left out because they are longer than the context.
    pub dropped: u64,
    /// Positions that hold padding.
    pub padded: u64,
}

impl Packing {
    /// Packs all sequences of `corpus` into windows of `context` positions; `padding` fills the rest of each.
    ///
    /// # Errors
    /// When the context is empty, a sequence is longer than it and must not be, or no sequence is left.
    pub fn new(corpus: &Corpus, context: usize, padding: u32, too_long: TooLong) -> Result<Self, Error> {
        Self::pack(corpus, context, padding, too_long, false)
    }

    /// As [`Packing::new`], with one sequence per window: for methods that put learnt tokens before each
    /// sequence.
    ///
    /// # Errors
    /// As [`Packing::new`].
    pub fn alone(corpus: &Corpus, context: usize, padding: u32, too_long: TooLong) -> Result<Self, Error> {
        Self::pack(corpus, context, padding, too_long, true)
    }

    fn pack(
        corpus: &Corpus,
        context: usize,
        padding: u32,
        too_long: TooLong,
        alone: bool,
    ) -> Result<Self, Error> {
        if context == 0 {
            return Err(Error::Parameters("a context of 0 tokens holds nothing".to_owned()));
        }
        if corpus.is_empty() {
            return Err(Error::Parameters("the corpus is empty: no document of it was kept".to_owned()));
        }
        let mut packing = Self { context, padding, windows: Vec::new(), truncated: 0, dropped: 0, padded: 0 };
        let mut room = FreeSpace::default();
        for (number, length) in (0u64..).zip(corpus.lengths()) {
            // A single token predicts nothing.
            let Some(wanted @ 1..) = length.checked_sub(1) else { continue };
            let fits = usize::try_from(wanted).ok().filter(|wanted| *wanted <= context);
            let needed = match (fits, too_long) {
                (Some(needed), _) => needed,
                (None, TooLong::Truncate) => {
                    packing.truncated += 1;
                    context
                }
                (None, TooLong::Drop) => {
                    packing.dropped += 1;
                    continue;
                }
                (None, TooLong::Error) => {
                    let why = format!(
                        "sequence {number} of {length} tokens is longer than the context of {context}"
                    );
                    return Err(Error::Parameters(format!("{why}; `too_long` may be `truncate` or `drop`")));
                }
            };
            let window = match room.first(needed).filter(|_| !alone) {
                Some(window) => window,
                None => {
                    packing.windows.push(Vec::new());
                    room.push(context)
                }
            };
            room.take(window, needed);
            packing.windows[window].push(number);
        }
        if packing.windows.is_empty() {
            return Err(Error::Parameters(format!(
                "no sequence of the corpus fits a context of {context} tokens"
            )));
        }
        packing.padded = room.left(packing.windows.len());
        Ok(packing)
    }

    /// Positions per window.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// Number of windows.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.windows.len() as u64
    }

    /// The sequences of a window; empty past the last.
    #[must_use]
    pub fn sequences(&self, window: u64) -> &[u64] {
        usize::try_from(window).ok().and_then(|window| self.windows.get(window)).map_or(&[], Vec::as_slice)
    }

    /// A window of `corpus`, which must be the one that was packed. Past the last, all is padding.
    #[must_use]
    pub fn window(&self, corpus: &Corpus, number: u64) -> Window {
        let mut window = Window::default();
        for sequence in self.sequences(number).iter().filter_map(|number| corpus.sequence(*number)) {
            window.starts.push(window.inputs.len() as u32);
            let room = self.context - window.inputs.len();
            let taken = sequence.tokens.len().saturating_sub(1).min(room);
            window.inputs.extend_from_slice(&sequence.tokens[..taken]);
            window.targets.extend_from_slice(&sequence.tokens[1..=taken]);
            window.learnt.extend_from_slice(&sequence.learnt[1..=taken]);
        }
        if window.inputs.len() < self.context {
            window.starts.push(window.inputs.len() as u32);
        }
        window.inputs.resize(self.context, self.padding);
        window.targets.resize(self.context, self.padding);
        window.learnt.resize(self.context, false);
        window
    }
}

impl Corpus {
    /// The window of the one sequence over all documents that begins at `start`: `context` positions, or
    /// `None` if they are not there.
    #[must_use]
    pub fn window(&self, start: u64, context: usize) -> Option<Window> {
        let tokens = self.tokens(start, context + 1);
        if tokens.len() <= context {
            return None;
        }
        let learnt = self.learnt(start + 1, context);
        Some(Window {
            inputs: tokens[..context].to_vec(),
            targets: tokens[1..].to_vec(),
            learnt,
            starts: self.starts(start, context),
        })
    }
}

/// The free positions of each window, as a tree of maxima: node `i` has the children `2i` and `2i + 1`.
#[derive(Default)]
struct FreeSpace {
    tree: Vec<usize>,
    leaves: usize,
    used: usize,
}

impl FreeSpace {
    /// The first window with `needed` free positions.
    fn first(&self, needed: usize) -> Option<usize> {
        if self.tree.get(1).is_none_or(|room| *room < needed) {
            return None;
        }
        let mut node = 1;
        while node < self.leaves {
            node *= 2;
            node += usize::from(self.tree[node] < needed);
        }
        Some(node - self.leaves)
    }

    /// Adds a window and returns its number.
    fn push(&mut self, room: usize) -> usize {
        if self.used == self.leaves {
            let leaves = (self.leaves * 2).max(64);
            let mut tree = vec![0; 2 * leaves];
            let kept = self.tree.get(self.leaves..).unwrap_or_default();
            tree[leaves..leaves + kept.len()].copy_from_slice(kept);
            for node in (1..leaves).rev() {
                tree[node] = tree[2 * node].max(tree[2 * node + 1]);
            }
            (self.tree, self.leaves) = (tree, leaves);
        }
        self.used += 1;
        self.set(self.used - 1, room);
        self.used - 1
    }

    fn take(&mut self, window: usize, needed: usize) {
        self.set(window, self.tree[self.leaves + window] - needed);
    }

    fn set(&mut self, window: usize, room: usize) {
        let mut node = self.leaves + window;
        self.tree[node] = room;
        while node > 1 {
            node /= 2;
            self.tree[node] = self.tree[2 * node].max(self.tree[2 * node + 1]);
        }
    }

    fn left(&self, windows: usize) -> u64 {
        self.tree[self.leaves..self.leaves + windows].iter().map(|room| *room as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_data::documents::Entry;
    use muster_data::shard::{DocumentKind, Sequence, Shard, ShardIndex, ShardWriter};

    /// Chats of these lengths with consecutive tokens; the second half of each is learnt from.
    fn shard(lengths: &[usize], from: u32) -> Shard {
        let index = ShardIndex {
            name: "s".to_owned(),
            vocab_size: 60_000,
            tokenizer: "t".to_owned(),
            ..ShardIndex::default()
        };
        let mut writer = ShardWriter::of(index);
        let entry = Entry { path: "p".to_owned(), hash: "h".to_owned(), bytes: 1, ..Entry::default() };
        let mut next = from;
        for length in lengths {
            let tokens: Vec<u32> = (next..).take(*length).collect();
            next += *length as u32;
            let learnt = (0..*length).map(|at| at * 2 >= *length).collect();
            writer.push(&entry, DocumentKind::Chat, &[Sequence { tokens, learnt }]).expect("fits");
        }
        writer.finish().expect("is sound")
    }

    fn corpus() -> Corpus {
        Corpus::new(vec![shard(&[5, 4, 7], 0), shard(&[3, 2, 1, 4], 16)]).expect("joins")
    }

    #[test]
    fn first_fit_in_order_and_no_sequence_is_split() {
        let corpus = corpus();
        let packing = Packing::new(&corpus, 8, 899, TooLong::Error).expect("packs");
        // Positions needed: 4, 3, 6, 2, 1, none, 3.
        let windows: Vec<_> =
            (0..packing.windows()).map(|window| packing.sequences(window).to_vec()).collect();
        assert_eq!(windows, [vec![0, 1, 4], vec![2, 3], vec![6]]);
        assert_eq!((packing.padded, packing.dropped, packing.truncated), (5, 0, 0));

        let window = packing.window(&corpus, 0);
        assert_eq!(window.inputs, [0, 1, 2, 3, 5, 6, 7, 19]);
        assert_eq!(window.targets, [1, 2, 3, 4, 6, 7, 8, 20]);
        assert_eq!(window.learnt, [false, false, true, true, false, true, true, true]);
        assert_eq!(window.starts, [0, 4, 7]);
        assert_eq!(window.segments(), [0, 0, 0, 0, 1, 1, 1, 2]);
        let last = packing.window(&corpus, 2);
        assert_eq!(
            (&last.inputs[2..4], &last.starts[..], last.learnt[3..].contains(&true)),
            (&[24, 899][..], &[0, 3][..], false)
        );
    }

    #[test]
    fn what_is_too_long_is_cut_or_left_out_or_refused() {
        let corpus = corpus();
        let packed = |context, too_long| Packing::new(&corpus, context, 0, too_long);
        let cut = packed(3, TooLong::Truncate).expect("packs");
        assert_eq!((cut.truncated, cut.window(&corpus, 0).targets), (2, vec![1, 2, 3]));
        let dropped = packed(3, TooLong::Drop).expect("packs");
        assert_eq!((dropped.dropped, dropped.sequences(0)), (2, &[1][..]));
        for (context, expected) in
            [(3, "sequence 0 of 5 tokens is longer than the context of 3"), (0, "a context of 0")]
        {
            let message = packed(context, TooLong::Error).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
        let alone = Corpus::new(vec![shard(&[9, 1], 0)]).expect("joins");
        assert!(
            Packing::new(&alone, 4, 0, TooLong::Drop)
                .expect_err("is empty")
                .to_string()
                .contains("no sequence")
        );
        assert!("cut".parse::<TooLong>().expect_err("is none").contains("`truncate`, `drop` or `error`"));
    }

    #[test]
    fn the_first_window_with_room_is_that_of_a_search_from_the_left() {
        let lengths: Vec<usize> = (0..100u64).map(|i| (i * i * 31 % 17) as usize + 2).collect();
        let corpus = Corpus::new(vec![shard(&lengths, 0)]).expect("joins");
        let packing = Packing::new(&corpus, 24, 0, TooLong::Error).expect("packs");
        let mut rooms: Vec<usize> = Vec::new();
        let mut windows: Vec<Vec<u64>> = Vec::new();
        for (number, length) in (0..).zip(&lengths) {
            let at = rooms.iter().position(|room| *room >= length - 1).unwrap_or(rooms.len());
            if at == rooms.len() {
                rooms.push(24);
                windows.push(Vec::new());
            }
            rooms[at] -= length - 1;
            windows[at].push(number);
        }
        assert_eq!(packing.windows, windows);
    }

    #[test]
    fn windows_over_all_documents_know_where_they_begin() {
        let corpus = corpus();
        let table: [(u64, usize, &[u32]); 5] =
            [(0, 8, &[0, 5]), (4, 6, &[0, 1, 5]), (5, 3, &[0]), (14, 6, &[0, 2, 5]), (20, 3, &[0, 1, 2])];
        for (start, context, starts) in table {
            let window = corpus.window(start, context).expect("is there");
            assert_eq!(window.starts, starts, "from {start}");
            assert_eq!(window.inputs, (start as u32..).take(context).collect::<Vec<_>>());
            assert_eq!(window.learnt, corpus.learnt(0, 99)[start as usize + 1..][..context]);
        }
        assert_eq!((corpus.window(20, 6), corpus.sequences()), (None, 7));
        assert_eq!(corpus.sequence(5).map(|sequence| sequence.tokens), Some(vec![21]));
        assert_eq!((corpus.sequence(7), corpus.preference(0)), (None, None));
    }
}

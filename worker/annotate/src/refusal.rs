//! Why a label is refused: the limits, and the checks that need nothing but the label.

/// The longest name of a person.
pub const WHO_BYTES_MAX: usize = 64;
/// The longest label.
pub const LABEL_BYTES_MAX: usize = 16 << 10;
/// Most labels, including replaced ones.
pub const LABELS_MAX: u64 = 10_000_000;
/// Most people: agreement is computed for each two of them.
pub const PEOPLE_MAX: usize = 256;

/// Why a label is refused, for the person who gave it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name is not valid.
    #[error("`who` is a name of 1 to {WHO_BYTES_MAX} bytes without control characters, not {0:?}")]
    Who(String),
    /// There is no such item.
    #[error("there is no item {0:?}")]
    Item(String),
    /// The label is not one of the stage's.
    #[error("the label of {item:?} is one of {known}, not {label:?}")]
    Label {
        /// The item.
        item: String,
        /// The label given.
        label: String,
        /// The stage's labels.
        known: String,
    },
    /// The text is empty or too long.
    #[error("the label of {item:?} is a text of 1 to {LABEL_BYTES_MAX} bytes, not of {bytes}")]
    Length {
        /// The item.
        item: String,
        /// The length of the text.
        bytes: usize,
    },
    /// It has all its labels from others.
    #[error("{0:?} has all its labels, by others")]
    Full(String),
    /// A limit is reached.
    #[error("no more labels are accepted: there are {LABELS_MAX}, or {PEOPLE_MAX} people")]
    Limit,
    /// The stage has been ended.
    #[error("no more labels are accepted: {0} has ended the stage")]
    Closed(String),
    /// The stage may not be ended yet.
    #[error("{open} items lack labels; only a stage with `allow_partial` may be ended before they have them")]
    Unfinished {
        /// The number of items that lack labels.
        open: usize,
    },
}

impl Refusal {
    /// Whether the input is invalid, as opposed to a state in which no label is accepted.
    pub fn is_of_input(&self) -> bool {
        match self {
            Refusal::Who(_) | Refusal::Item(_) | Refusal::Label { .. } | Refusal::Length { .. } => true,
            Refusal::Full(_) | Refusal::Limit | Refusal::Closed(_) | Refusal::Unfinished { .. } => false,
        }
    }
}

/// Whether a label is one of `labels`, or, if there are none, a non-blank string of an allowed length.
pub fn check_label(labels: &[String], item: &str, label: &str) -> Result<(), Refusal> {
    if labels.is_empty() {
        let fits = (1..=LABEL_BYTES_MAX).contains(&label.len()) && !label.trim().is_empty();
        return if fits {
            Ok(())
        } else {
            Err(Refusal::Length { item: item.to_owned(), bytes: label.len() })
        };
    }
    if labels.iter().any(|known| known == label) {
        return Ok(());
    }
    let known = labels.iter().map(|known| format!("{known:?}")).collect::<Vec<_>>().join(", ");
    // The message has only the beginning of what may be a long text.
    Err(Refusal::Label { item: item.to_owned(), label: label.chars().take(WHO_BYTES_MAX).collect(), known })
}

/// Whether this is a valid name of a person.
pub fn is_name(who: &str) -> bool {
    (1..=WHO_BYTES_MAX).contains(&who.len()) && who.trim() == who && !who.chars().any(char::is_control)
}

//! Heuristic quality filters: for code, and for prose after Gopher (Rae et al. 2021) and C4 (Raffel et al.
//! 2020).
//!
//! A document is dropped for the first rule that it breaks, so the counts by reason add up to the number
//! dropped. A rule looks at one document only and keeps no state.

mod c4;
mod code;
mod gopher;
mod language;
mod per_mille;
mod reason;
mod repetition;

pub use c4::C4;
pub use code::Code;
pub use gopher::Gopher;
pub use language::Languages;
pub use reason::DropReason;
pub use repetition::Repetition;

use super::Error;
use super::documents::{Body, Tally};
use serde::{Deserialize, Serialize};

/// The rules to apply and their bounds. Sizes are of the normalised text. `None` turns a group off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    /// Least bytes of a document.
    pub bytes_min: u64,
    /// Most bytes of a document.
    pub bytes_max: u64,
    /// Whether a document with control characters is dropped.
    pub no_control_characters: bool,
    /// Rules for source code.
    pub code: Option<Code>,
    /// Rules for the languages of prose.
    pub languages: Option<Languages>,
    /// Rules for the quality of prose.
    pub gopher: Option<Gopher>,
    /// Rules against text that repeats itself.
    pub repetition: Option<Repetition>,
    /// Rules for web pages.
    pub c4: Option<C4>,
}

/// The size limit of the presets `none` and `web`.
const BYTES_MAX: u64 = 16 << 20;

impl Default for Filters {
    /// The preset `code`.
    fn default() -> Self {
        Self {
            bytes_min: 200,
            bytes_max: 256 * 1024,
            no_control_characters: true,
            code: Some(Code::default()),
            ..Self::none()
        }
    }
}

impl Filters {
    /// The preset `none`: drops only empty and very long documents.
    #[must_use]
    pub fn none() -> Self {
        Self {
            bytes_min: 1,
            bytes_max: BYTES_MAX,
            no_control_characters: false,
            code: None,
            languages: None,
            gopher: None,
            repetition: None,
            c4: None,
        }
    }

    /// The preset `web`, for web pages and other prose: the rules of Gopher and C4.
    #[must_use]
    pub fn web() -> Self {
        Self {
            no_control_characters: true,
            gopher: Some(Gopher::default()),
            repetition: Some(Repetition::default()),
            c4: Some(C4::default()),
            ..Self::none()
        }
    }

    /// The preset of that name: `none`, `code` or `web`.
    ///
    /// # Errors
    /// [`Error::Parameters`] with the known names.
    pub fn preset(name: &str) -> Result<Self, Error> {
        match name {
            "none" => Ok(Self::none()),
            "code" => Ok(Self::default()),
            "web" => Ok(Self::web()),
            other => {
                Err(Error::Parameters(format!("unknown filters {other:?}; use `none`, `code` or `web`")))
            }
        }
    }
}

/// The result of filtering a document.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterOutcome {
    /// It is kept; the tally counts the lines removed.
    Kept(Body, Tally),
    /// It is dropped.
    Dropped(DropReason, Tally),
}

/// Removes lines by C4's rules, and applies the other rules to the rest. A conversation is filtered by all
/// its text together, and no lines are removed from it.
#[must_use]
pub fn apply(body: Body, filters: &Filters) -> FilterOutcome {
    let (body, removed) = match (body, &filters.c4) {
        (Body::Text(text), Some(rules)) => {
            // Check the size first, so that no time is spent on text that is dropped anyway.
            if let Some(reason) = size(&text, filters) {
                return FilterOutcome::Dropped(reason, Tally { documents: 1, bytes: text.len() as u64 });
            }
            let (text, removed) = rules.clean(text);
            (Body::Text(text), removed)
        }
        (body, Some(_) | None) => (body, Tally::default()),
    };
    match first_broken_rule(&body.plain(), filters) {
        Some(reason) => {
            FilterOutcome::Dropped(reason, Tally { documents: 1, bytes: body.bytes() + removed.bytes })
        }
        None => FilterOutcome::Kept(body, removed),
    }
}

fn first_broken_rule(text: &str, filters: &Filters) -> Option<DropReason> {
    let control = || {
        let found =
            filters.no_control_characters && text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
        found.then_some(DropReason::ControlCharacters)
    };
    size(text, filters)
        .or_else(control)
        .or_else(|| filters.code.as_ref().and_then(|rules| rules.drop_reason(text)))
        .or_else(|| filters.languages.as_ref().and_then(|rules| rules.drop_reason(text)))
        .or_else(|| filters.gopher.as_ref().and_then(|rules| rules.drop_reason(text)))
        .or_else(|| filters.repetition.as_ref().and_then(|rules| rules.drop_reason(text)))
        .or_else(|| filters.c4.as_ref().and_then(|rules| rules.drop_reason(text)))
}

fn size(text: &str, filters: &Filters) -> Option<DropReason> {
    let bytes = text.len() as u64;
    if bytes < filters.bytes_min {
        Some(DropReason::TooSmall)
    } else if bytes > filters.bytes_max {
        Some(DropReason::TooLarge)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;

//! Language identification by script and trigrams (crate `whatlang`).
//!
//! It tells 69 languages apart given a few sentences, and is often wrong on a few words: filter such short
//! documents by size.

use super::reason::DropReason;
use crate::Error;
use serde::{Deserialize, Serialize};

/// The languages wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Languages {
    /// ISO 639-3 codes: `eng`, `deu`, `cmn`.
    pub wanted: Vec<String>,
    /// Least confidence, in thousandths.
    pub confidence_per_mille_min: u32,
}

impl Default for Languages {
    fn default() -> Self {
        Self { wanted: Vec::new(), confidence_per_mille_min: 500 }
    }
}

/// Bytes of the beginning that are examined; more don't make the result more reliable.
const BYTES_LOOKED_AT: usize = 8 * 1024;

impl Languages {
    /// Accepts the languages with these ISO 639-3 codes.
    ///
    /// # Errors
    /// [`Error::Parameters`] naming an unknown code and listing the known ones.
    pub fn of(codes: &[String]) -> Result<Self, Error> {
        match codes.iter().find(|code| whatlang::Lang::from_code(code.as_str()).is_none()) {
            Some(code) => {
                let known: Vec<&str> = whatlang::Lang::all().iter().map(whatlang::Lang::code).collect();
                Err(Error::Parameters(format!(
                    "unknown language {code:?}; use ISO 639-3 codes: {}",
                    known.join(", ")
                )))
            }
            None => Ok(Self { wanted: codes.to_vec(), ..Self::default() }),
        }
    }

    /// [`DropReason::Language`] unless `text` is recognised as one of the languages.
    #[must_use]
    pub fn drop_reason(&self, text: &str) -> Option<DropReason> {
        let start = &text[..text.floor_char_boundary(BYTES_LOOKED_AT)];
        let found = whatlang::detect(start);
        let wanted = found.is_some_and(|found| {
            let sure = found.confidence() * 1000.0 >= f64::from(self.confidence_per_mille_min);
            sure && self.wanted.iter().any(|code| code == found.lang().code())
        });
        (!wanted).then_some(DropReason::Language)
    }
}

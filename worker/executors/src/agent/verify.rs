//! `agent.verify`: judges the candidates for one line; plain code, no model.
//!
//! It picks one without a look at the real line: of those that lex as Rust and whose brackets balance, the
//! one that agrees most with all the others, since what a model says again and again it is surest of. Then it
//! measures every candidate against the real line, so that the joiner can say what picking is worth.

use super::AgentError;
use super::rust_line::{LineVerdict, judge_line};
use crate::error::Error;
use crate::outputs::{Candidates, CompleteOutput, HeldOutLine, Judged, Verdicts, VerifyOutput};
use crate::params::Params;
use muster_attempt::Attempt;
use muster_llm::generate::Completion;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `agent.verify`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyParams {
    /// Which line; set by `agent.plan`.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub n: u64,
    /// The artifact of the line; set by `agent.plan`.
    pub line: String,
    /// The open stage of `agent.complete`.
    pub complete_stage: String,
    /// The open stage of `agent.verify`.
    pub verify_stage: String,
    /// The open stage of `agent.join`.
    pub join_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for VerifyParams {
    fn default() -> VerifyParams {
        VerifyParams {
            n: 0,
            line: String::new(),
            complete_stage: "complete".to_owned(),
            verify_stage: "verify".to_owned(),
            join_stage: "join".to_owned(),
            seed: 1,
        }
    }
}

impl Params for VerifyParams {}

/// Runs the task of one line.
pub fn run(attempt: &mut Attempt, params: &VerifyParams) -> Result<(), Error> {
    let n = params.n;
    let line: HeldOutLine = attempt.get_json(super::line_hash(&params.line)?)?;
    let stage = &params.complete_stage;
    let outputs: Vec<CompleteOutput> = attempt.outputs_of(stage)?;
    let output = outputs.iter().find(|output| output.n == n);
    let output = output.ok_or_else(|| AgentError::NoCandidates { n, stage: stage.clone() })?;
    let Candidates { completions } = attempt.get_json(output.candidates)?;

    let verdicts: Vec<LineVerdict> = completions
        .iter()
        .map(|completion| judge_line(&line.prefix, &completion.text, Some(&line.rest)))
        .collect();
    for (completion, verdict) in completions.iter().zip(&verdicts) {
        let complaint = verdict.complaint.as_deref().unwrap_or("well formed");
        attempt.say(&format!(
            "{}{}   ({complaint}, agreement {:.2})",
            line.prefix, completion.text, verdict.agreement
        ));
    }
    attempt.say(&format!("{}{}   (the real line)", line.prefix, line.rest));
    let preferences =
        (0..completions.len()).map(|index| preference(&line.prefix, &completions, index, &verdicts[index]));
    let picked = greatest(preferences)?;
    let best = greatest(verdicts.iter().map(|verdict| verdict.agreement))?;
    let judged = |index: usize| Judged {
        well_formed: well_formed(&verdicts[index]),
        agreement: verdicts[index].agreement,
    };
    let output = VerifyOutput {
        n,
        candidates: verdicts.len() as u64,
        well_formed: verdicts.iter().filter(|verdict| well_formed(verdict)).count() as u64,
        one: judged(0),
        picked: judged(picked),
        best: judged(best),
        verdicts: attempt.put_json(&Verdicts { verdicts, picked, best })?,
    };
    Ok(attempt.output(&output)?)
}

fn well_formed(verdict: &LineVerdict) -> bool {
    verdict.lexes && verdict.balances
}

/// What the pick goes by: form first, then the mean agreement with the other candidates. The real line has no
/// part in it.
fn preference(prefix: &str, completions: &[Completion], index: usize, verdict: &LineVerdict) -> f64 {
    let others = completions.iter().enumerate().filter(|(other, _)| *other != index);
    let sum: f64 = others
        .map(|(_, other)| judge_line(prefix, &completions[index].text, Some(&other.text)).agreement)
        .sum();
    // An agreement is at most 1.
    let form = if well_formed(verdict) { 2.0 } else { 0.0 };
    form + sum / completions.len().max(2).saturating_sub(1) as f64
}

/// The position of the greatest number; of equal ones, the first.
fn greatest(numbers: impl Iterator<Item = f64>) -> Result<usize, AgentError> {
    let greatest = numbers.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    greatest.map(|(index, _)| index).ok_or(AgentError::NothingToJudge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_llm::generate::FinishReason;

    #[test]
    fn the_pick_is_well_formed_and_most_like_the_others() {
        let table = [
            (&["foo(a);", "foo(b);", "return;"][..], 0),
            (&["\"open", "\"open", "\"open", "x;"], 3),
            (&["", "value"], 1),
            (&["only"], 0),
        ];
        for (texts, expected) in table {
            let complete = |text: &&str| Completion {
                tokens: vec![1],
                text: (*text).to_owned(),
                logprob: -1.0,
                ended: FinishReason::Line,
            };
            let completions: Vec<Completion> = texts.iter().map(complete).collect();
            let verdicts: Vec<LineVerdict> =
                texts.iter().map(|text| judge_line("let x = ", text, None)).collect();
            let preferences =
                (0..texts.len()).map(|index| preference("let x = ", &completions, index, &verdicts[index]));
            assert_eq!(greatest(preferences).unwrap(), expected, "{texts:?}");
        }
    }
}

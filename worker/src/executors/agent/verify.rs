//! `agent.verify`: judges the candidates for one line; plain code, no model.
//!
//! It picks one without a look at the real line: the likeliest, by the model's own probability per token, among those that lex as Rust and
//! whose brackets balance. Then it measures every candidate against the real line, so that the joiner can say what picking is worth.

use crate::executors::{
    attempt::Attempt,
    error::Error,
    wire::{Candidates, CompleteOutput, Judged, Line, Verdicts, VerifyOutput},
};
use muster_llm::{
    generate::Completion,
    verify::{Verdict, judge},
};

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let n = attempt.params.whole("n");
    let line: Line = attempt.get_json(super::line_hash(attempt)?)?;
    let stage = attempt.params.text("complete_stage").to_owned();
    let outputs: Vec<CompleteOutput> = attempt.outputs_of(&stage)?;
    let output = outputs.iter().find(|output| output.n == n);
    let output = output.ok_or_else(|| Error::Unfit(format!("find the candidates for line {n} in the outputs of stage `{stage}`")))?;
    let Candidates { completions } = attempt.get_json(output.candidates)?;

    let verdicts: Vec<Verdict> = completions.iter().map(|completion| judge(&line.prefix, &completion.text, Some(&line.rest))).collect();
    for (completion, verdict) in completions.iter().zip(&verdicts) {
        let complaint = verdict.complaint.as_deref().unwrap_or("well formed");
        attempt.say(&format!("{}{}   ({complaint}, agreement {:.2})", line.prefix, completion.text, verdict.agreement));
    }
    attempt.say(&format!("{}{}   (the real line)", line.prefix, line.rest));
    let picked = greatest(completions.iter().zip(&verdicts).map(|(completion, verdict)| preference(completion, verdict)))?;
    let best = greatest(verdicts.iter().map(|verdict| verdict.agreement))?;
    let judged = |index: usize| Judged { well_formed: well_formed(&verdicts[index]), agreement: verdicts[index].agreement };
    let output = VerifyOutput {
        n,
        candidates: verdicts.len() as u64,
        well_formed: verdicts.iter().filter(|verdict| well_formed(verdict)).count() as u64,
        one: judged(0),
        picked: judged(picked),
        best: judged(best),
        verdicts: attempt.put_json(&Verdicts { verdicts, picked, best })?,
    };
    attempt.output(&output)
}

fn well_formed(verdict: &Verdict) -> bool {
    verdict.lexes && verdict.balances
}

/// What the pick goes by: form first, then probability per token. The real line has no part in it.
fn preference(completion: &Completion, verdict: &Verdict) -> f64 {
    let per_token = completion.logprob / completion.tokens.len().max(1) as f64;
    // A probability per token is above 0, so its logarithm is far above this.
    if well_formed(verdict) && !completion.tokens.is_empty() { per_token } else { per_token - 1e6 }
}

/// The position of the greatest number; of equal ones, the first.
fn greatest(numbers: impl Iterator<Item = f64>) -> Result<usize, Error> {
    let greatest = numbers.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    greatest.map(|(index, _)| index).ok_or_else(|| Error::Unfit("judge: there is no candidate".to_owned()))
}

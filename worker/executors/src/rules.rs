//! Which values of `train` go together: checked when a job is submitted, since a contradiction that a gang
//! finds has cost an hour of data.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

type Values = BTreeMap<&'static str, Value>;

/// Keys that mean something only where another key has one of some values.
const ONLY_WITH: &[(&[&str], &str, &[&str])] = &[
    (
        &["replicas", "inner_steps", "min_contributions", "round_seconds", "outer_lr", "outer_momentum"],
        "mode",
        &["diloco"],
    ),
    (&["checkpoint_every"], "mode", &["sync", "single"]),
    (&["rank", "alpha", "dropout", "rslora", "targets"], "method", &["lora", "qlora"]),
    (&["quantised"], "method", &["qlora"]),
    (&["virtual_tokens"], "method", &["prefix", "prompt"]),
    (&["dpo_beta", "label_smoothing"], "objective", &["dpo"]),
    (&["too_long"], "objective", &["sft"]),
    (&["cut_documents"], "objective", &["lm"]),
    (&["decay_steps"], "schedule", &["wsd"]),
];
/// The shape of a model, which a base brings along.
const SHAPE: &[&str] = &["hidden_size", "intermediate_size", "layers", "heads", "kv_heads"];

/// Checks the values of `train`; `given` are the keys that the stage itself has.
pub fn train(values: &Values, given: &BTreeSet<&'static str>) -> Result<(), String> {
    let text = |key: &str| values.get(key).and_then(Value::as_str).unwrap_or_default();
    let whole = |key: &str| values.get(key).and_then(Value::as_u64).unwrap_or_default();
    for (keys, of, words) in ONLY_WITH {
        if let Some(key) =
            keys.iter().find(|key| given.contains(**key)).filter(|_| !words.contains(&text(of)))
        {
            return Err(format!(
                "`{key}` means something only with `{of}` = {}, and `{of}` is {}",
                words.join(" or "),
                text(of)
            ));
        }
    }
    let (base, stage, method) = (text("base"), text("base_stage"), text("method"));
    let from_scratch = base.is_empty() && stage.is_empty();
    if !base.is_empty() && !stage.is_empty() {
        return Err(format!(
            "`base` = {base} and `base_stage` = {stage} are two models to go on from: give one"
        ));
    }
    if from_scratch && method != "full" {
        return Err(format!(
            "`method` = {method} trains something small on a frozen base: give it one by `base` or `base_stage`"
        ));
    }
    if let Some(key) = SHAPE.iter().find(|key| given.contains(**key)).filter(|_| !from_scratch) {
        return Err(format!("`{key}` is the shape of a model from scratch, and the base brings its own"));
    }
    if text("loader_stage").is_empty() {
        if given.contains("prefetch") {
            return Err("`prefetch` means something only with `loader_stage`".to_owned());
        }
    } else if text("objective") == "dpo" {
        return Err(
            "`objective` = dpo can't take `loader_stage`: what the reference says of each pair is measured by the trainer".to_owned()
        );
    }
    if method == "prompt" && text("objective") == "sft" && !text("loader_stage").is_empty() {
        return Err("`method` = prompt with `objective` = sft can't take `loader_stage`: loaders pack several conversations".to_owned());
    }
    if method == "prompt" && values.get("cut_documents").and_then(Value::as_bool).unwrap_or_default() {
        return Err("`cut_documents` cuts a window's later documents off from what `method` = prompt learns before it".to_owned());
    }
    let (steps, warmup, decay) = (whole("steps"), whole("warmup_steps"), whole("decay_steps"));
    if given.contains("warmup_steps") && warmup > steps || decay > steps {
        return Err(format!(
            "`warmup_steps` = {warmup} and `decay_steps` = {decay} must fit into `steps` = {steps}"
        ));
    }
    if text("mode") == "diloco" {
        let (inner, replicas, least) = (whole("inner_steps"), whole("replicas"), whole("min_contributions"));
        if !steps.is_multiple_of(inner) {
            return Err(format!(
                "`steps` = {steps} must be a multiple of `inner_steps` = {inner}: a round is never cut"
            ));
        }
        if least > replicas {
            return Err(format!("`min_contributions` = {least} can't be had of `replicas` = {replicas}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::check;

    #[test]
    fn what_does_not_go_together_is_said_at_submit() {
        let table = [
            (
                r#"{"rank": 4}"#,
                "`rank` means something only with `method` = lora or qlora, and `method` is full",
            ),
            (r#"{"method": "lora"}"#, "give it one by `base` or `base_stage`"),
            (r#"{"method": "lora", "base": "/m", "base_stage": "s"}"#, "two models to go on from"),
            (r#"{"base": "/m", "layers": 2}"#, "`layers` is the shape of a model from scratch"),
            (
                r#"{"method": "qlora", "base": "/m", "virtual_tokens": 3}"#,
                "`virtual_tokens` means something only with `method` = prefix or prompt",
            ),
            (
                r#"{"mode": "diloco", "steps": 100, "inner_steps": 30}"#,
                "must be a multiple of `inner_steps` = 30",
            ),
            (r#"{"mode": "diloco", "steps": 100, "min_contributions": 9}"#, "can't be had of `replicas` = 4"),
            (r#"{"inner_steps": 10}"#, "only with `mode` = diloco, and `mode` is sync"),
            (r#"{"prefetch": 2}"#, "only with `loader_stage`"),
            (
                r#"{"objective": "dpo", "base": "/m", "loader_stage": "load"}"#,
                "`objective` = dpo can't take `loader_stage`",
            ),
            (r#"{"steps": 10, "warmup_steps": 20}"#, "must fit into `steps` = 10"),
            (
                r#"{"method": "prompt", "base": "/m", "cut_documents": true}"#,
                "`cut_documents` cuts a window's later documents off",
            ),
            (r#"{"mode": "gossip"}"#, r#"`mode` is sync, single or diloco, not "gossip""#),
            (r#"{"rslora": 1}"#, "`rslora` is true or false, not 1"),
        ];
        for (stage, expected) in table {
            let message = check("train", "", stage).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        for right in [
            r#"{"method": "lora", "base_stage": "pretrain", "rank": 4, "targets": ["q_proj"]}"#,
            r#"{"mode": "diloco", "steps": 100, "inner_steps": 25, "replicas": 8, "min_contributions": 6}"#,
            r#"{"objective": "dpo", "dpo_beta": 0.2, "base": "/m"}"#,
            r#"{"steps": 10}"#,
        ] {
            check("train", r#"{"seed": 3}"#, right).unwrap();
        }
    }
}

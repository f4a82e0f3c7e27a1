//! The parameters of a stage as the library takes them.

use crate::error::Error;
use crate::params::Params;
use muster_data::pack::TooLong;
use muster_llm::diloco::OuterConfig;
use muster_llm::model::{ModelConfig, Precision};
use muster_llm::peft::MethodConfig;
use muster_llm::peft::full::FullConfig;
use muster_llm::peft::lora::{ALL_LINEAR, LoraConfig, TargetModules};
use muster_llm::peft::prefix::PrefixTuningConfig;
use muster_llm::peft::prompt::PromptTuningConfig;
use muster_llm::peft::qlora::QloraConfig;
use muster_llm::train::{Objective, Retention, SpikeGuard, TrainConfig};
use std::time::Duration;

/// How ranks work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One rank.
    Single,
    /// Each step together.
    Sync,
    /// Rounds.
    Diloco,
}

/// What samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// Windows of all text; attention may be cut where documents begin.
    Text {
        /// Whether it is.
        cut: bool,
    },
    /// Packed conversations.
    Conversations(TooLong),
    /// Pairs.
    Preferences,
}

/// What the rounds of DiLoCo are like.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Logical replicas.
    pub replicas: usize,
    /// Steps of each between two rounds.
    pub inner_steps: u64,
    /// How many contributions are enough when the time is up.
    pub min_contributions: usize,
    /// How many must be fit to be merged.
    pub least_merged: usize,
    /// A round's time.
    pub time: Duration,
    /// The outer optimizer.
    pub outer: OuterConfig,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How ranks work together.
    pub mode: Mode,
    /// What samples are.
    pub learning: Learning,
    /// Their positions.
    pub context: usize,
    /// The run.
    pub train: TrainConfig,
    /// What is trained.
    pub method: MethodConfig,
    /// Of [`Mode::Diloco`].
    pub rounds: Rounds,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
    /// Which checkpoints are kept.
    pub retention: Retention,
    /// When a step is a spike.
    pub guard: SpikeGuard,
    /// How often a run may go back.
    pub guard_max: u64,
    /// Whether shares follow measured speeds.
    pub measured: bool,
    /// Whether a microbatch may be cut for lack of memory.
    pub allow_accumulation: bool,
    /// The stage that samples come from; empty: they are made here.
    pub loader_stage: String,
    /// Batches that are fetched ahead.
    pub prefetch: usize,
}

impl Setting {
    /// From checked parameters.
    pub fn of(params: &Params) -> Result<Setting, Error> {
        let (steps, replicas) = (params.whole("steps"), params.size("replicas"));
        let least = params.size("min_contributions");
        let objective = match params.text("objective") {
            "dpo" => Objective::Preference {
                beta: params.number("dpo_beta"),
                label_smoothing: params.number("label_smoothing"),
            },
            _ => Objective::NextToken,
        };
        let train = TrainConfig {
            seed: params.whole("seed"),
            steps,
            microbatches: params.size("microbatches"),
            sequences: params.size("sequences"),
            objective,
            learning_rate: params.number("learning_rate"),
            schedule: word(params, "schedule")?,
            warmup_steps: params.whole("warmup_steps").min(steps),
            decay_steps: params.whole("decay_steps"),
            final_rate: params.number("final_rate"),
            beta1: params.number("beta1"),
            beta2: params.number("beta2"),
            weight_decay: params.number("weight_decay"),
            clip_norm: params.number("clip_norm"),
            precision: word(params, "precision")?,
            gradient_checkpointing: params.flag("gradient_checkpointing"),
            ..TrainConfig::default()
        };
        Ok(Setting {
            mode: match params.text("mode") {
                "single" => Mode::Single,
                "diloco" => Mode::Diloco,
                _ => Mode::Sync,
            },
            learning: match params.text("objective") {
                "sft" => Learning::Conversations(word(params, "too_long")?),
                "dpo" => Learning::Preferences,
                _ => Learning::Text { cut: params.flag("cut_documents") },
            },
            context: params.size("context"),
            train,
            method: method(params)?,
            rounds: Rounds {
                replicas,
                inner_steps: params.whole("inner_steps"),
                min_contributions: if least == 0 { replicas } else { least },
                least_merged: least.max(1),
                time: Duration::from_secs(params.whole("round_seconds")),
                outer: OuterConfig {
                    learning_rate: params.number("outer_lr"),
                    momentum: params.number("outer_momentum"),
                },
            },
            checkpoint_every: params.whole("checkpoint_every"),
            retention: Retention {
                last: params.size("keep_last"),
                every: params.whole("keep_every"),
                best: params.size("keep_best"),
            },
            guard: SpikeGuard { deviations: params.number("guard_deviations"), ..SpikeGuard::default() },
            guard_max: params.whole("guard_max"),
            measured: params.text("shares") == "measured",
            allow_accumulation: params.flag("allow_accumulation"),
            loader_stage: params.text("loader_stage").to_owned(),
            prefetch: params.size("prefetch"),
        })
    }
}

/// The shape of a model from scratch.
pub fn shape(params: &Params, vocab_size: usize) -> ModelConfig {
    ModelConfig {
        vocab_size,
        hidden_size: params.size("hidden_size"),
        intermediate_size: params.size("intermediate_size"),
        num_hidden_layers: params.size("layers"),
        num_attention_heads: params.size("heads"),
        num_key_value_heads: params.size("kv_heads"),
        max_position_embeddings: params.size("context"),
        ..ModelConfig::default()
    }
}

fn method(params: &Params) -> Result<MethodConfig, Error> {
    let lora = || {
        let named = params.texts("targets");
        let targets = if named.is_empty() {
            TargetModules::All(ALL_LINEAR.to_owned())
        } else {
            TargetModules::Named(named)
        };
        let (r, alpha, dropout) = (params.size("rank"), params.number("alpha"), params.number("dropout"));
        LoraConfig { targets, r, alpha, dropout, rslora: params.flag("rslora"), base: None }
    };
    let virtual_tokens = params.size("virtual_tokens");
    Ok(match params.text("method") {
        "lora" => MethodConfig::Lora(lora()),
        "qlora" => MethodConfig::Qlora(QloraConfig {
            base: quantised(params),
            lora: lora(),
            ..QloraConfig::default()
        }),
        "prefix" => {
            MethodConfig::Prefix(PrefixTuningConfig { virtual_tokens, ..PrefixTuningConfig::default() })
        }
        "prompt" => {
            MethodConfig::Prompt(PromptTuningConfig { virtual_tokens, ..PromptTuningConfig::default() })
        }
        _ => MethodConfig::Full(FullConfig {}),
    })
}

fn quantised(params: &Params) -> Precision {
    if params.text("quantised") == "q8_0" { Precision::Q8_0 } else { Precision::Q4K }
}

/// A word of the list as the library spells it: the same.
fn word<T: serde::de::DeserializeOwned>(params: &Params, key: &'static str) -> Result<T, Error> {
    let value = serde_json::Value::from(params.text(key));
    serde_json::from_value(value)
        .map_err(|e| Error::Unfit(format!("use `{key}` = {}: {e}", params.text(key))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_llm::train::Schedule;

    #[test]
    fn every_word_of_the_list_is_known_to_the_library() {
        for (key, words) in [
            ("schedule", &["cosine", "linear", "wsd", "constant"][..]),
            ("precision", &["f32", "bf16"]),
            ("mode", &["sync", "single", "diloco"]),
            ("objective", &["lm", "sft", "dpo"]),
        ] {
            for value in words {
                let stage = serde_json::json!({ key: value }).to_string();
                let setting = Setting::of(&Params::read("train", "", &stage, "").unwrap()).unwrap();
                setting.train.validate().unwrap();
                assert_ne!((key, *value, setting.train.schedule), ("schedule", "wsd", Schedule::Cosine));
            }
        }
        for too_long in ["error", "truncate", "drop"] {
            let stage = serde_json::json!({"objective": "sft", "too_long": too_long}).to_string();
            let setting = Setting::of(&Params::read("train", "", &stage, "").unwrap()).unwrap();
            assert!(matches!(setting.learning, Learning::Conversations(_)));
        }
    }
}

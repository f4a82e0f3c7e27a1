//! `config.json`: what transformers writes, of version 4 and of version 5, and what it reads.

use crate::model::Error;
use crate::model::config::{Family, ModelConfig};
use crate::model::rope_scaling::RopeScaling;
use candle_core::DType;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

fn wrong(reason: impl Into<String>) -> Error {
    Error::Config(format!("config.json: {}", reason.into()))
}

fn field<T: DeserializeOwned>(object: &Object, name: &str) -> Result<Option<T>, Error> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            serde_json::from_value(value.clone()).map(Some).map_err(|e| wrong(format!("{name}: {e}")))
        }
    }
}

fn needed<T: DeserializeOwned>(object: &Object, name: &str) -> Result<T, Error> {
    field(object, name)?.ok_or_else(|| wrong(format!("{name} is missing")))
}

/// Reads a configuration. What is absent has the value that transformers gives it.
///
/// # Errors
/// [`Error::Config`] naming the field that is missing, malformed, or asks for something that is not built.
pub fn parse_config(bytes: &[u8]) -> Result<ModelConfig, Error> {
    let object: Object = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
    let kind: String = needed(&object, "model_type")?;
    let model_type = match kind.as_str() {
        "llama" | "mistral" => Family::Llama,
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        other => {
            return Err(wrong(format!(
                "model_type {other:?} is not built; llama, mistral, qwen2 and qwen3 are"
            )));
        }
    };
    let activation: Option<String> = field(&object, "hidden_act")?;
    if let Some(other) = activation.filter(|name| name != "silu" && name != "swish") {
        return Err(wrong(format!("hidden_act {other:?} is not built; silu is")));
    }
    refuse_windows(&object, &kind)?;
    let max_position_embeddings = needed(&object, "max_position_embeddings")?;
    let (rope_theta, rope_scaling) = rope(&object, max_position_embeddings)?;
    let num_attention_heads: usize = needed(&object, "num_attention_heads")?;
    let head_dim: Option<usize> = field(&object, "head_dim")?;
    let config = ModelConfig {
        model_type,
        vocab_size: needed(&object, "vocab_size")?,
        hidden_size: needed(&object, "hidden_size")?,
        intermediate_size: needed(&object, "intermediate_size")?,
        num_hidden_layers: needed(&object, "num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads: field(&object, "num_key_value_heads")?.unwrap_or(num_attention_heads),
        // Qwen3's head width is a parameter of its own, independent of the hidden size.
        head_dim: head_dim.or((model_type == Family::Qwen3).then_some(128)),
        max_position_embeddings,
        rms_norm_eps: field(&object, "rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        tie_word_embeddings: field(&object, "tie_word_embeddings")?.unwrap_or(false),
        attention_bias: model_type != Family::Qwen2 && field(&object, "attention_bias")?.unwrap_or(false),
        mlp_bias: field(&object, "mlp_bias")?.unwrap_or(false),
        initializer_range: field(&object, "initializer_range")?.unwrap_or(0.02),
        eos_token_id: match object.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.first().and_then(Value::as_u64),
            Some(other) => other.as_u64(),
            None => None,
        }
        .and_then(|id| u32::try_from(id).ok()),
    };
    config.validate()?;
    Ok(config)
}

/// Sliding windows are not supported: a model that needs them would silently be wrong beyond the window.
fn refuse_windows(object: &Object, kind: &str) -> Result<(), Error> {
    let used: bool = field(object, "use_sliding_window")?.unwrap_or(kind == "mistral");
    let window: Option<u64> = field(object, "sliding_window")?;
    let layers: Vec<String> = field(object, "layer_types")?.unwrap_or_default();
    if (used && window.is_some()) || layers.iter().any(|layer| layer != "full_attention") {
        return Err(wrong(
            "sliding windows of attention are not built (use_sliding_window, sliding_window, layer_types)",
        ));
    }
    Ok(())
}

/// Version 5 has `rope_parameters`, version 4 `rope_theta` and `rope_scaling`.
fn rope(object: &Object, context: usize) -> Result<(f64, Option<RopeScaling>), Error> {
    let parameters: Option<Object> = match field(object, "rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => field(object, "rope_scaling")?,
    };
    let mut parameters = parameters.unwrap_or_default();
    let theta = match field(&parameters, "rope_theta")? {
        Some(theta) => theta,
        None => field(object, "rope_theta")?.unwrap_or(10_000.0),
    };
    let turned =
        field::<f64>(object, "partial_rotary_factor")?.or(field(&parameters, "partial_rotary_factor")?);
    if let Some(part) = turned.filter(|part| (part - 1.0).abs() > f64::EPSILON) {
        return Err(wrong(format!("partial_rotary_factor {part} is not built; 1 is")));
    }
    let kind: String = match field(&parameters, "rope_type")? {
        Some(kind) => kind,
        None => field(&parameters, "type")?.unwrap_or_else(|| "default".to_owned()),
    };
    if kind == "default" {
        return Ok((theta, None));
    }
    if !["linear", "llama3", "yarn"].contains(&kind.as_str()) {
        return Err(wrong(format!("rope_type {kind:?} is not built; default, linear, llama3 and yarn are")));
    }
    if kind == "yarn"
        && (parameters.contains_key("mscale") || parameters.get("truncate") == Some(&Value::Bool(false)))
    {
        return Err(wrong("rope_type yarn with mscale or truncate = false is not built"));
    }
    let original = parameters.entry("original_max_position_embeddings").or_insert(json!(context));
    if original.is_null() {
        *original = json!(context);
    }
    parameters.insert("rope_type".to_owned(), json!(kind));
    parameters.retain(|_, value| !value.is_null());
    let scaling =
        serde_json::from_value(Value::Object(parameters)).map_err(|e| wrong(format!("rope scaling: {e}")))?;
    Ok((theta, Some(scaling)))
}

/// The configuration as transformers of either version reads it.
///
/// # Errors
/// When serialization fails, which it does not for a valid configuration.
pub fn write_config(config: &ModelConfig, dtype: DType) -> Result<Vec<u8>, Error> {
    let failed = |e: serde_json::Error| Error::File {
        what: "write",
        file: "config.json".to_owned(),
        reason: e.to_string(),
    };
    let name = match dtype {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    };
    let mut parameters = match &config.rope_scaling {
        Some(scaling) => serde_json::to_value(scaling).map_err(failed)?,
        None => json!({ "rope_type": "default" }),
    };
    let scaling = if config.rope_scaling.is_some() { parameters.clone() } else { Value::Null };
    parameters["rope_theta"] = json!(config.rope_theta);
    let mut object = json!({
        "architectures": [config.model_type.architecture()],
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim(),
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling,
        "rope_parameters": parameters,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "attention_dropout": 0.0,
        "initializer_range": config.initializer_range,
        "torch_dtype": name,
        "use_cache": true,
    });
    if let Some(eos) = config.eos_token_id {
        object["eos_token_id"] = json!(eos);
    }
    serde_json::to_vec_pretty(&object).map_err(failed)
}

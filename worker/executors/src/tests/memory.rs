//! Too little memory: the error says how much is needed before it is allocated, and a batch that may be
//! computed in parts gives the weights of those parts.

use super::made::{prepared, refused, texts, train, weights};

/// 256 positions at a time, for which a MiB is too small; half of them fit.
const WIDE: &str = r#""steps": 3, "microbatches": 2, "sequences": 16, "checkpoint_every": 3"#;
const HALVES: &str = r#""steps": 3, "microbatches": 4, "sequences": 8, "checkpoint_every": 3"#;

#[test]
fn a_batch_that_does_not_fit_is_refused_or_computed_in_halves() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = prepared(dir.path(), texts(60));
    train(&cluster, "base", 1, r#""steps": 2, "microbatches": 1, "sequences": 2, "checkpoint_every": 2"#);
    cluster.succeed("base");
    for method in ["full", "lora"] {
        let named = |what: &str| -> &'static str { Box::leak(format!("{method}-{what}").into_boxed_str()) };
        // Dropout is drawn for each part, as it is for each microbatch.
        let more = match method {
            "lora" => r#""base_stage": "base", "method": "lora", "dropout": 0.1, "rank": 4"#,
            _ => r#""method": "full""#,
        };
        let [wide, short, parts, gang, halves] = ["wide", "short", "parts", "gang", "halves"].map(named);
        train(&cluster, wide, 1, &format!("{WIDE}, {more}"));
        train(&cluster, short, 1, &format!("{WIDE}, {more}"));
        train(&cluster, parts, 1, &format!(r#"{WIDE}, {more}, "allow_accumulation": true"#));
        train(
            &cluster,
            gang,
            2,
            &format!(r#"{WIDE}, {more}, "allow_accumulation": true, "shares": "measured""#),
        );
        train(&cluster, halves, 1, &format!("{HALVES}, {more}"));
        let wide = weights(&cluster.succeed(wide));
        cluster.memory.lock().unwrap().memory_mib = 1;

        let message = refused(&cluster, short);
        for part in [
            "compute a batch of 16 samples of 256 positions",
            "hold 16 sequences of 16 positions in memory: they need 1.",
            "for weights, moments, gradients",
            "and 1.0 MiB are granted",
            "fewer `sequences`, or `allow_accumulation`, or `gradient_checkpointing` would need less",
        ] {
            assert!(message.contains(part), "{message}");
        }
        // The sums equal those of twice as many microbatches of half the size, bit for bit. A single product
        // over all samples adds in another order.
        let parts = weights(&cluster.succeed(parts));
        assert_ne!(parts, wide);
        assert_eq!(weights(&cluster.succeed(gang)), parts);
        assert_eq!(weights(&cluster.succeed(halves)), parts);
        cluster.memory.lock().unwrap().memory_mib = 0;
    }

    // If the smallest part does not fit either, the error says so.
    cluster.stage(
        "huge",
        "train",
        1,
        false,
        r#"{"steps": 1, "context": 16, "hidden_size": 256, "allow_accumulation": true}"#,
    );
    cluster.memory.lock().unwrap().memory_mib = 1;
    let message = refused(&cluster, "huge");
    assert!(
        message.contains("hold 1 sequences of 16 positions in memory: they need")
            && message.contains("1.0 MiB are granted"),
        "{message}"
    );
}

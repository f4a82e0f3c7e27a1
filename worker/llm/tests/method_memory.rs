//! What the methods cost in memory, counted by the allocator: the greatest number of bytes that were held at
//! once in two steps of training with AdamW's moments, what the base of each takes, and what was estimated.
//! One test, since all tests of a process share the count.

use candle_core::Device;
use muster_host::compute::Compute;
use muster_llm::model::weights::initial;
use muster_llm::model::{ModelConfig, Precision};
use muster_llm::ops::BatchLayout;
use muster_llm::ops::linear_cross_entropy::LossTargets;
use muster_llm::peft::{self, BaseFootprint, MethodConfig};
use muster_llm::train::memory;
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Write, stderr};
use std::sync::atomic::{AtomicUsize, Ordering};

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
struct Counted;

fn more(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "an allocator can't be counted otherwise")]
// SAFETY: every call is passed on to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Eleven and a half million numbers in the proportions of a small llama.
fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 8192,
        hidden_size: 256,
        intermediate_size: 768,
        num_hidden_layers: 12,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        max_position_embeddings: 256,
        ..ModelConfig::default()
    }
}

/// The greatest number of bytes above those before, of training from the base on, what the base takes, and
/// what was estimated.
fn measure(method: &Value, checkpointing: bool) -> (usize, BaseFootprint, usize) {
    let method: MethodConfig = serde_json::from_value(method.clone()).expect("a method");
    let config = config();
    let flat = initial(&config, 1);
    let start = HELD.load(Ordering::Relaxed) - flat.len() * size_of::<f32>();
    let mut model = peft::build(config, flat, &method, Precision::F32, &Device::Cpu, 1).expect("builds");
    // The flat vector that weights are read from is gone by now; what counts is training.
    PEAK.store(HELD.load(Ordering::Relaxed), Ordering::Relaxed);
    let count = model.store().trained_count();
    let (mut first, mut second) = (vec![0f32; count], vec![0f32; count]);
    model.set_checkpointing(checkpointing);
    let rows = BatchLayout::new(2, 128);
    let estimated =
        memory::training_bytes(&model, false) + memory::activation_bytes(&model, &rows, checkpointing);
    let tokens: Vec<u32> = (0..rows.count()).map(|i| (i * i * 31 % 8192) as u32).collect();
    let mut space = Vec::new();
    for step in 0..2 {
        let (_, gradients) =
            model.gradients(&tokens, &LossTargets::mean(tokens.clone()), &rows, None, space).expect("runs");
        space = gradients.into_vec().expect("reads");
        peft::check_trainable(&method, &model, &space, step).expect("all learn");
        model
            .store()
            .edit(|weights| {
                for (((weight, gradient), first), second) in
                    weights.iter_mut().zip(&space).zip(&mut first).zip(&mut second)
                {
                    *first = 0.9 * *first + 0.1 * gradient;
                    *second = 0.999 * *second + 0.001 * gradient * gradient;
                    *weight -= 1e-3 * *first / (second.sqrt() + 1e-8);
                }
            })
            .expect("edits");
    }
    (
        PEAK.load(Ordering::Relaxed) - start,
        peft::base_footprint(&method, &model).expect("counts"),
        estimated as usize,
    )
}

#[test]
fn a_frozen_base_costs_no_gradient_memory_and_a_quantised_one_a_third() {
    let lora =
        |base: &str| json!({"method": "lora", "targets": "all-linear", "r": 8, "alpha": 16.0, "base": base});
    let methods = [
        ("full", json!({"method": "full"})),
        ("lora f32", lora("f32")),
        ("lora bf16", lora("bf16")),
        ("qlora", json!({"method": "qlora", "lora": {"targets": "all-linear", "alpha": 16.0}})),
        ("prefix", json!({"method": "prefix"})),
        ("prompt", json!({"method": "prompt"})),
    ];
    let compute = Compute::new(2).expect("starts");
    let measured =
        |method: &Value| [false, true].map(|checkpointing| compute.run(|| measure(method, checkpointing)));
    let both: Vec<_> = methods.iter().map(|(name, method)| (*name, measured(method))).collect();
    let found: Vec<_> = both.iter().map(|(name, [(peak, base, _), _])| (*name, (*peak, base))).collect();
    let (full, _) = found[0].1;
    let mut table = format!("{} numbers\n", config().parameter_count());
    for (name, (peak, base)) in &found {
        let (peak_mb, base_mb) = (*peak as f64 / 1e6, base.base_bytes as f64 / 1e6);
        let (of_full, of_bf16) =
            (*peak as f64 / full as f64, base.base_bytes as f64 / base.bf16_bytes as f64);
        table += &format!(
            "{name:10} peak {peak_mb:6.1} MB, {of_full:.3} of full; base {base_mb:5.1} MB, {of_bf16:.3} of bf16; {} trained\n",
            base.trained
        );
    }
    for (name, each) in &both {
        for (peak, _, estimated) in each {
            table += &format!(
                "{name:10} peak {peak:11} bytes, estimated {:.3} of it\n",
                *estimated as f64 / *peak as f64
            );
        }
    }
    write!(stderr(), "{table}").expect("writes");
    // What is refused would not have fitted, and what is not refused hardly ever doesn't fit.
    for (name, each) in &both {
        for (peak, _, estimated) in each {
            assert!(
                *estimated <= *peak && *estimated * 10 >= *peak * 8,
                "{name}: {estimated} bytes estimated, {peak} taken"
            );
        }
    }
    for (name, (peak, base)) in &found[1..] {
        assert!(*peak * 2 <= full, "{name} takes {peak} bytes at its peak, full {full}");
        assert!(base.trained * 20 < config().parameter_count(), "{name} trains {}", base.trained);
    }
    let (_, base) = &found[3].1;
    assert!(base.base_bytes * 100 <= base.bf16_bytes * 35, "{base:?}");
    assert!(base.fallbacks.is_empty(), "{base:?}");
}

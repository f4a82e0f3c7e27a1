//! A trainer with the operations that a device runs, on the CPU: compared with the one on slices.

use super::super::*;
use super::{config, reader, save, start, start_with};
use crate::autograd::FlatVector;
use crate::device::tests::small_blocks;
use crate::model::Precision;
use crate::parallel::Tree;

/// A trainer that computes as on a device.
fn start_on_device(config: TrainConfig) -> Trainer {
    start_with(config, small_blocks())
}

fn off(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()))
}

fn precise(precision: Precision, checkpointing: bool) -> TrainConfig {
    TrainConfig { precision, gradient_checkpointing: checkpointing, clip_norm: 0.5, ..config() }
}

fn steps(trainer: &mut Trainer, count: usize) -> Vec<StepReport> {
    (0..count).map(|_| trainer.step_alone().expect("steps")).collect()
}

#[test]
fn steps_on_a_device_are_those_on_the_cpu() {
    for checkpointing in [false, true] {
        let mut host = start(precise(Precision::F32, checkpointing));
        let theirs = steps(&mut host, 12);
        let mut device = start_on_device(precise(Precision::F32, checkpointing));
        let ours = steps(&mut device, 12);
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a.loss - b.loss).abs() < 1e-4 * b.loss, "{a:?} against {b:?}");
            assert!(
                (a.gradient_norm - b.gradient_norm).abs() < 1e-3 * b.gradient_norm,
                "{a:?} against {b:?}"
            );
            assert_eq!((a.counted, &a.samples, a.learning_rate), (b.counted, &b.samples, b.learning_rate));
        }
        assert!(theirs.iter().any(|report| report.gradient_norm > 0.5), "some are clipped");
        // Steps of up to 1e-2: that of a gradient near zero turns with its rounding.
        let found = off(&device.weights().expect("reads"), &host.weights().expect("reads"));
        assert!(found < 2e-3, "off by {found}");
        let (a, b) = (device.moments().expect("reads"), host.moments().expect("reads"));
        assert!(off(&a.first, &b.first) < 1e-4 && off(&a.second, &b.second) < 1e-5);
    }
}

/// In bf16 the model is rounded and the masters are updated; a checkpoint is bit-exact, and
/// goes to the CPU and back.
#[test]
fn a_device_in_bf16_learns_and_its_checkpoint_is_bit_for_bit() {
    let bf16 = TrainConfig { steps: 60, ..precise(Precision::Bf16, false) };
    let mut exact = start(precise(Precision::F32, false));
    let last = steps(&mut exact, 40).last().map_or(f64::NAN, |report| report.loss);
    let mut trainer = start_on_device(bf16.clone());
    let found = steps(&mut trainer, 40).last().map_or(f64::NAN, |report| report.loss);
    assert!((found - last).abs() < 0.15, "{found} against {last}");
    let (held, masters) =
        (trainer.model().store().trained().expect("reads"), trainer.weights().expect("reads"));
    assert!(held.iter().zip(&masters).all(|(held, master)| *held == half::bf16::from_f32(*master).to_f32()));
    assert_ne!(held, masters);

    let (manifest, files) = save(&trainer);
    let mut resumed = start_on_device(bf16.clone());
    resumed.restore(&manifest, &reader(&files)).expect("restores");
    let all = |trainer: &Trainer| (trainer.weights().expect("reads"), trainer.moments().expect("reads"));
    assert!(all(&resumed) == all(&trainer));
    assert_eq!(steps(&mut resumed, 3), steps(&mut trainer, 3));
    assert!(all(&resumed) == all(&trainer));
    assert_eq!(resumed.weights_hash().expect("reads"), trainer.weights_hash().expect("reads"));
    let (again, _) = save(&resumed);
    assert_eq!(again.files, save(&trainer).0.files);

    // A replica's numbers taken away and put back are the same.
    let (state, weights, moments) =
        (trainer.state().clone(), trainer.weights().expect("reads"), trainer.take_moments().expect("reads"));
    resumed.put(state, &weights, moments).expect("fits");
    assert_eq!(steps(&mut resumed, 2), steps(&mut trainer, 2));
}

/// Sums stay where they are made, and a sum that went through the CPU, as between ranks, is the same.
#[test]
fn a_sum_stays_on_the_device_or_goes_through_the_cpu() {
    let (mut stays, mut travels) =
        (start_on_device(precise(Precision::F32, false)), start_on_device(precise(Precision::F32, false)));
    for step in 0..3 {
        let sum = |trainer: &Trainer| {
            let mut tree = Tree::new(4);
            for partial in trainer.loss_and_gradients(step, 0..4).expect("computes") {
                tree.push(partial, |sum, other| trainer.join(sum, other)).expect("is in order");
            }
            tree.total().expect("is whole")
        };
        let (own, other) = (sum(&stays), sum(&travels));
        assert!(matches!(own.flat, FlatVector::Device { .. }));
        let sent = GradientSum { sums: other.sums, flat: other.flat.into_host().expect("reads").into() };
        assert_eq!(stays.apply(step, own).expect("applies"), travels.apply(step, sent).expect("applies"));
    }
    assert!(stays.weights().expect("reads") == travels.weights().expect("reads"));
}

#[test]
fn what_a_device_can_not_do_is_named_and_changes_nothing() {
    let told = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
    let mut trainer = start_on_device(precise(Precision::Bf16, false));
    let before = trainer.weights_hash().expect("reads");
    let sums = LossSums { loss: 1.0, counted: 1.0, ..LossSums::default() };
    let count = trainer.parameter_count();
    let small = trainer
        .apply(0, GradientSum { sums, flat: FlatVector::Failed(told.to_owned()) })
        .expect_err("failed before")
        .to_string();
    for part in
        ["out of memory", "weights 0.00", "activations of 2 sequences of 16", "masters and moments", told]
    {
        assert!(small.contains(part), "{small}");
    }
    let other = trainer
        .apply(0, GradientSum { sums, flat: FlatVector::Failed("no device".to_owned()) })
        .expect_err("failed before");
    assert_eq!(other.to_string(), "compute: no device");
    let mut wild = vec![0f32; count];
    wild[7] = f32::NAN;
    let refused =
        trainer.apply(0, GradientSum { sums, flat: wild.into() }).expect_err("is refused").to_string();
    assert!(refused.contains("the gradient's norm is NaN"), "{refused}");
    assert_eq!((trainer.weights_hash().expect("reads"), trainer.step()), (before, 0));

    // A matrix that nothing reaches is found there, too.
    trainer.step_alone().expect("steps");
    let still = trainer.apply(
        1,
        GradientSum { sums, flat: vec![0f32; count - 1].into_iter().chain([1.0]).collect::<Vec<_>>().into() },
    );
    assert!(
        still.expect_err("is refused").to_string().contains("find a gradient for model.embed_tokens.weight")
    );
}

/// The need of weights is exact; the estimate for activations grows linearly with the sequence length.
#[test]
fn needs_are_those_of_what_is_held() {
    let trainer = start_on_device(precise(Precision::Bf16, true));
    let count = trainer.parameter_count();
    let needs =
        |sequences, time, again| device_memory::DeviceMemoryNeed::of(trainer.model(), sequences, time, again);
    let few = needs(2, 16, true);
    assert_eq!(
        (few.weights, few.optimizer, few.gradients, few.device),
        (2 * count, 12 * count, 8 * count, None)
    );
    assert!(few.activations < needs(2, 16, false).activations);
    let (one, two) =
        (needs(1, 1 << 14, false).activations as f64, needs(1, 1 << 15, false).activations as f64);
    assert!(two > 1.5 * one && two < 2.1 * one, "{one} {two}");
    let told = |text: &str| {
        crate::model::Error::Tensor(candle_core::Error::Msg(text.to_owned()))
            .explain_memory(7_000_000_000)
            .to_string()
    };
    let short = told("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
    assert!(short.starts_with("find memory on the device for weights of 7.00 GB: out of memory"), "{short}");
    assert!(told("CublasError(CUBLAS_STATUS_ALLOC_FAILED)").contains("out of memory"));
    assert_eq!(told("no such kernel"), "compute: no such kernel");
}

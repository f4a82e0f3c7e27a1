//! Which sequences a step reads: a pure function of the seed and the step.

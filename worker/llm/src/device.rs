//! The devices that tensors live on, their memory, and how operations are computed there.

pub use candle_core::Device;

/// How operations are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Fused loops over slices of f32; on the CPU only.
    Fused,
    /// candle's operations, on any device, in blocks of these sizes.
    Composed(BlockSizes),
}

impl Backend {
    /// The fastest for a device.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        if device.is_cpu() { Self::Fused } else { Self::Composed(BlockSizes::default()) }
    }

    /// The sizes of blocks on a device; the defaults for [`Backend::Fused`].
    #[must_use]
    pub fn block_sizes(self) -> BlockSizes {
        match self {
            Self::Fused => BlockSizes::default(),
            Self::Composed(sizes) => sizes,
        }
    }
}

/// How much a device works on at a time. Larger blocks keep it busy; smaller ones need less memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Queries per block of attention, at most: enough rows for a product, little above the diagonal.
    pub queries: usize,
    /// Logits that exist at a time, at most, unless [`BlockSizes::logit_rows_min`] rows have more.
    pub logits: usize,
    /// Rows whose logits are computed together, at least.
    pub logit_rows_min: usize,
    /// Elements of a flat vector that are worked on at a time: a result needs little room beside what it
    /// replaces.
    pub flat: usize,
}

impl Default for BlockSizes {
    fn default() -> Self {
        Self { queries: 256, logits: 1 << 26, logit_rows_min: 256, flat: 1 << 24 }
    }
}

/// Keeps the memory that this process frees, instead of returning it to the system. Each step of training
/// allocates the same buffers again, and fresh pages cost about 4 % of a step. Call it in a process that only
/// trains. It works with glibc only.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the allocator's settings are behind a C call")]
    // SAFETY: mallopt reads two integers and changes the allocator's settings, under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_TOP_PAD, TOP_PAD_BYTES);
    }
}

/// How much the heap grows by beyond what is needed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TOP_PAD_BYTES: libc::c_int = 64 << 20;

/// The device called `cpu`, or `cuda:N` for the N-th GPU that the process sees (`cuda` is `cuda:0`).
///
/// # Errors
/// A phrase that fits after "failed to": the name is unknown, this build has no GPU support, or there is no
/// such GPU.
pub fn open(name: &str) -> Result<Device, String> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let number = name
        .strip_prefix("cuda:")
        .or((name == "cuda").then_some("0"))
        .and_then(|number| number.parse::<usize>().ok());
    let Some(number) = number else {
        return Err(format!("use the device {name:?}: the known names are cpu, cuda and cuda:N"));
    };
    if cfg!(feature = "cuda") {
        Device::new_cuda(number).map_err(|e| format!("use the device {name}: {e}"))
    } else {
        Err(format!("use the device {name}: this build has no GPU support; build it with the feature `cuda`"))
    }
}

/// Whether an error's text says that a device ran out of memory: the driver's (`CUDA_ERROR_OUT_OF_MEMORY`,
/// "out of memory") or that of a library whose own allocation failed (`CUBLAS_STATUS_ALLOC_FAILED`).
#[must_use]
pub fn is_out_of_memory(text: &str) -> bool {
    ["out of memory", "OUT_OF_MEMORY", "STATUS_ALLOC_FAILED"].iter().any(|sign| text.contains(sign))
}

/// Free and total bytes of a device's memory; `None` on the CPU, and where the driver does not say.
#[must_use]
pub fn free_and_total_memory(device: &Device) -> Option<[usize; 2]> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            device.cuda_stream().context().mem_get_info().ok().map(|(free, all)| [free, all])
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => None,
        Device::Cpu | Device::Metal(_) => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a device runs, for tests on the CPU: in blocks so small that little models have several.
    pub(crate) fn small_blocks() -> Backend {
        Backend::Composed(BlockSizes { queries: 16, logits: 1 << 10, logit_rows_min: 1, flat: 1 << 10 })
    }

    #[test]
    fn the_cpu_is_fused_and_unknown_devices_are_refused() {
        assert_eq!(Backend::of(&open("cpu").expect("is there")), Backend::Fused);
        assert!(open("tpu").expect_err("is unknown").contains("the known names are cpu, cuda and cuda:N"));
    }
}

//! The devices that tensors live on, and their memory.

pub use candle_core::Device;
use muster_host::compute::Compute;
/// Keeps the memory that this process frees for its next step, instead of handing it back to the system: each
/// step of training asks for the same buffers again, and fresh pages cost about 4 % of it. For a process
/// whose one job is training; glibc only.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the allocator's settings are behind a C call")]
    // SAFETY: mallopt reads two integers and changes the allocator's settings, under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_TOP_PAD, TOP_PAD_BYTES);
    }
}

/// How much more than it needs the heap grows by at a time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TOP_PAD_BYTES: libc::c_int = 64 << 20;

/// Where tensors are: `cpu`, or `cuda:N` for the N-th GPU that the process sees.
///
/// # Errors
/// A phrase that fits after "failed to": the name is none, this build has no GPUs, or there is no such GPU.
pub fn device(name: &str) -> Result<Device, String> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let number = name
        .strip_prefix("cuda:")
        .or((name == "cuda").then_some("0"))
        .and_then(|number| number.parse::<usize>().ok());
    let Some(number) = number else {
        return Err(format!("use the device {name:?}: it is none; there are cpu, cuda and cuda:N"));
    };
    if cfg!(feature = "cuda") {
        Device::new_cuda(number).map_err(|e| format!("use the device {name}: {e}"))
    } else {
        Err(format!(
            "use the device {name}: this build has no GPUs, since it was made without the feature `cuda`"
        ))
    }
}

/// Whether an error's text says that a device's memory was too small: the driver's
/// (`CUDA_ERROR_OUT_OF_MEMORY`, "out of memory"), or that of a library of it that found no room of its own
/// (`CUBLAS_STATUS_ALLOC_FAILED`).
#[must_use]
pub fn is_out_of_memory(text: &str) -> bool {
    ["out of memory", "OUT_OF_MEMORY", "STATUS_ALLOC_FAILED"].iter().any(|sign| text.contains(sign))
}

/// Free and all bytes of a device's memory; `None` on the CPU, and where the driver does not say.
#[must_use]
pub fn memory(device: &Device) -> Option<[usize; 2]> {
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

/// Runs `work` on the pool of `compute`; what a test set for its thread holds there too.
pub(crate) fn run<T: Send>(compute: &Compute, work: impl FnOnce() -> T + Send) -> T {
    #[cfg(test)]
    let work = crate::ops::host::as_here(work);
    compute.run(work)
}

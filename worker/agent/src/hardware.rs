//! The CPUs, memory and GPUs that this process may use, and how busy the machine is. A file or library that
//! is absent is not an error: less is known.

use crate::machine::Load;
use muster_protocol::resources::GpuInfo;
use nvml_wrapper::Nvml;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hardware {
    pub(crate) cpu_milli: u32,
    pub(crate) memory_mib: u32,
    pub(crate) gpus: Vec<GpuInfo>,
}

pub(crate) fn discover() -> Hardware {
    let groups = control_groups(&read("/proc/self/cgroup"));
    let allowed = field(&read("/proc/self/status"), "Cpus_allowed_list").map_or(0, |list| cpus_in(&list));
    let quota = groups.iter().filter_map(|group| quota_milli(&read(group.join("cpu.max")))).min();
    let cpu_milli = (allowed.max(1) * 1_000).min(quota.unwrap_or(u32::MAX));
    let limit =
        groups.iter().filter_map(|group| read(group.join("memory.max")).trim().parse::<u64>().ok()).min();
    let memory_kib = kib(&read("/proc/meminfo"), "MemTotal").min(limit.map_or(u64::MAX, |bytes| bytes >> 10));
    Hardware { cpu_milli, memory_mib: (memory_kib >> 10).try_into().unwrap_or(u32::MAX), gpus: gpus() }
}

/// Measures how busy the machine is.
#[derive(Debug, Default)]
pub(crate) struct LoadMeter {
    last: CpuTicks,
}

#[derive(Clone, Copy, Debug, Default)]
struct CpuTicks {
    busy: u64,
    all: u64,
    cpus: u64,
}

impl LoadMeter {
    /// How busy the machine was since the last sample.
    pub(crate) fn sample(&mut self) -> Load {
        let now = ticks(&read("/proc/stat"));
        let (busy, all) = (now.busy.saturating_sub(self.last.busy), now.all.saturating_sub(self.last.all));
        self.last = now;
        let memory = read("/proc/meminfo");
        let used_kib = kib(&memory, "MemTotal").saturating_sub(kib(&memory, "MemAvailable"));
        Load {
            cpu_milli: (busy * 1_000 * now.cpus / all.max(1)).try_into().unwrap_or(u32::MAX),
            memory_mib: (used_kib >> 10).try_into().unwrap_or(u32::MAX),
        }
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// `Name: value` lines, as the kernel writes them.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_string()))
}

fn kib(text: &str, name: &str) -> u64 {
    field(text, name).and_then(|value| value.trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

/// How many CPUs a list like `0-3,8` names.
fn cpus_in(list: &str) -> u32 {
    let count = |part: &str| -> Option<u32> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    };
    list.split(',').filter_map(count).sum()
}

/// The process's control group and its ancestors: the lowest of their limits holds.
fn control_groups(text: &str) -> Vec<PathBuf> {
    let Some(own) = text.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(own);
    own.ancestors().take_while(|group| group.starts_with(root)).map(Path::to_path_buf).collect()
}

/// `cpu.max`: `QUOTA PERIOD` in microseconds, or `max PERIOD`.
fn quota_milli(text: &str) -> Option<u32> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    u32::try_from(quota.checked_mul(1_000)?.checked_div(period)?).ok().map(|milli| milli.max(1))
}

/// Reads `/proc/stat`. Idle time and time spent waiting for IO do not count as busy.
fn ticks(text: &str) -> CpuTicks {
    let values: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|n| n.parse().unwrap_or(0))
        .collect();
    let all = values.iter().sum();
    let idle: u64 = values.iter().skip(3).take(2).sum();
    let is_cpu = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    CpuTicks { busy: all - idle, all, cpus: text.lines().filter(is_cpu).count() as u64 }
}

/// The GPUs that NVML lists; empty without its library.
fn gpus() -> Vec<GpuInfo> {
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        Err(error) => {
            tracing::debug!(%error, "no NVIDIA GPUs: NVML is not usable here");
            return Vec::new();
        }
    };
    let count = nvml.device_count().unwrap_or(0);
    let describe = |index: u32| {
        let device = nvml.device_by_index(index).ok()?;
        Some(GpuInfo {
            index: u16::try_from(index).ok()?,
            model: device.name().unwrap_or_else(|_| "unknown".to_string()),
            memory_mib: device
                .memory_info()
                .map_or(0, |memory| u32::try_from(memory.total >> 20).unwrap_or(u32::MAX)),
            uuid: device.uuid().unwrap_or_default(),
        })
    };
    (0..count).filter_map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_parsed() {
        for (list, cpus) in [("0-3,8", 5), ("0", 1), ("", 0), ("0-1\n", 2), ("x,3-1,7", 1)] {
            assert_eq!(cpus_in(list), cpus, "{list}");
        }
        for (text, milli) in
            [("max 100000\n", None), ("150000 100000\n", Some(1_500)), ("", None), ("1 0", None)]
        {
            assert_eq!(quota_milli(text), milli, "{text}");
        }
        assert_eq!(
            control_groups("0::/a/b\n").last().map(PathBuf::as_path),
            Some(Path::new("/sys/fs/cgroup"))
        );
        assert_eq!(control_groups("0::/a/b\n").len(), 3);
        assert_eq!(kib("MemTotal:       2048 kB\nMemFree: 1 kB\n", "MemTotal"), 2_048);
        let stat = ticks("cpu  10 0 5 80 5 0 0 0 0 0\ncpu0 1 1\ncpu1 1 1\nintr 5\n");
        assert_eq!((stat.busy, stat.all, stat.cpus), (15, 100, 2));
        assert_eq!(ticks("").all, 0);
    }

    #[test]
    fn this_machine_has_a_cpu_and_memory() {
        let found = discover();
        assert!(found.cpu_milli >= 1 && found.memory_mib >= 1, "{found:?}");
        LoadMeter::default().sample();
    }
}

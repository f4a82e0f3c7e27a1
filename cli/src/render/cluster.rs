//! Workers and coordinators.

use super::style::{Style, truncate};
use super::table::{Table, TableCell};
use super::time;
use muster_protocol::view::{StatusView, WorkerView};

const NAME_CHARS_MAX: usize = 32;

/// `1.5`, `2`.
pub fn cpus(milli: u32) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// `512 MiB`, `1.5 GiB`.
pub fn memory(mib: u32) -> String {
    if mib < 1024 {
        return format!("{mib} MiB");
    }
    let tenths = u64::from(mib) * 10 / 1024;
    if tenths.is_multiple_of(10) {
        format!("{} GiB", tenths / 10)
    } else {
        format!("{}.{} GiB", tenths / 10, tenths % 10)
    }
}

pub fn workers(workers: &[WorkerView], style: Style) -> String {
    if workers.is_empty() {
        return "no workers\n".to_string();
    }
    let headings = [
        "WORKER",
        "NAME",
        "STATE",
        "ADDRESS",
        ">FREE CPUS",
        ">FREE MEMORY",
        ">FREE GPUS",
        "COUNTERS",
        "LABELS",
        ">ATTEMPTS",
        ">QUEUED",
    ];
    let mut table = Table::new(&headings, style);
    for worker in workers {
        let state = match (worker.liveness.word(), worker.draining) {
            ("alive", true) => "draining",
            (word, _) => word,
        };
        let counters = worker.capacity.counters.iter();
        let counters = counters.map(|(name, amount)| {
            format!("{name}={}/{amount}", worker.free.counters.get(name).copied().unwrap_or(0))
        });
        let labels = worker.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let gpus = match worker.capacity.gpus {
            0 => String::new(),
            all => format!("{}/{all}", worker.free.gpus),
        };
        table.row([
            worker.id.to_string().into(),
            truncate(&worker.name, NAME_CHARS_MAX).into(),
            TableCell::state(state, style),
            truncate(&worker.address, NAME_CHARS_MAX).into(),
            format!("{}/{}", cpus(worker.free.cpu_milli), cpus(worker.capacity.cpu_milli)).into(),
            format!("{}/{}", memory(worker.free.memory_mib), memory(worker.capacity.memory_mib)).into(),
            gpus.into(),
            truncate(&counters.collect::<Vec<_>>().join(" "), NAME_CHARS_MAX).into(),
            truncate(&labels.collect::<Vec<_>>().join(" "), NAME_CHARS_MAX).into(),
            worker.attempts.len().to_string().into(),
            worker.queued.to_string().into(),
        ]);
    }
    table.render()
}

pub fn status(status: &StatusView, style: Style) -> String {
    let leader = if status.leader.is_empty() {
        style.error("none")
    } else {
        style.bold(&truncate(&status.leader, NAME_CHARS_MAX))
    };
    let ledger = match status.ledger_first.0 {
        1 => "complete".to_string(),
        first => style.warning(&format!("incomplete: [1,{first}) is missing")),
    };
    let rows = [
        ("cluster", style.bold(&truncate(&status.cluster, NAME_CHARS_MAX))),
        ("leader", format!("{leader}, term {}", status.term)),
        (
            "asked",
            format!("{} ({})", truncate(&status.coordinator, NAME_CHARS_MAX), style.state(&status.role)),
        ),
        (
            "log",
            format!(
                "committed {}, applied {}, {} of log time",
                status.committed,
                status.applied,
                time::duration(status.log_ms.0)
            ),
        ),
        ("ledger", ledger),
        ("chain", format!("{} at {}", status.chain.hash, status.chain.index)),
        ("jobs", format!("{} open", status.open_jobs)),
        ("workers", status.workers.to_string()),
        ("bus", style.state(&truncate(&status.bus, 4 * NAME_CHARS_MAX))),
        ("version", truncate(&status.version, NAME_CHARS_MAX)),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        text.push_str(&format!("{name:<8} {value}\n"));
    }
    text.push('\n');
    let mut table = Table::new(&["MEMBER", "ROLE", "HTTP", "PEER", ">MATCHED"], style);
    for member in &status.members {
        let role = if member.name == status.leader { "leader" } else { "" };
        table.row([
            truncate(&member.name, NAME_CHARS_MAX).into(),
            TableCell::state(role, style),
            truncate(&member.http, NAME_CHARS_MAX).into(),
            truncate(&member.peer, NAME_CHARS_MAX).into(),
            member.matched.map_or(String::new(), |matched| matched.to_string()).into(),
        ]);
    }
    text + &table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (milli, expected) in [(0, "0"), (1000, "1"), (1500, "1.5"), (20, "0.02"), (10_000, "10")] {
            assert_eq!(cpus(milli), expected);
        }
        for (mib, expected) in
            [(0, "0 MiB"), (1023, "1023 MiB"), (1024, "1 GiB"), (1536, "1.5 GiB"), (10_240, "10 GiB")]
        {
            assert_eq!(memory(mib), expected);
        }
    }
}

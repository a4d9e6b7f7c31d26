//! What the system says of this process, under the names that Prometheus' own clients use. Only on Linux: elsewhere there
//! is no `/proc`, and the metrics are left out.

use std::fs;
use std::path::Path;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks per second of the times in `/proc/self/stat`. The kernel shows them at this rate to every program, whatever its
/// own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// One look at the process. What could not be read is absent.
#[derive(Debug, Default)]
pub(super) struct Process {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
    memory_limit: Option<u64>,
}

impl Process {
    /// Looks at this process. With very many descriptors this takes tens of milliseconds.
    pub(super) fn look() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        Self {
            cpu_seconds: cpu_seconds(&read("stat")),
            resident_bytes: resident_bytes(&read("status")),
            // One of them is open for the count itself.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|all| (all.count() as u64).saturating_sub(1)),
            max_fds: max_fds(&read("limits")),
            memory_limit: cgroup(&read("cgroup")).and_then(memory_limit),
        }
    }
}

/// The user and system time in `/proc/self/stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is a name in parentheses, which may hold anything. The times are fields 14 and 15.
    let (_, after_name) = stat.rsplit_once(')')?;
    let times = after_name.split_whitespace().skip(11).take(2);
    let ticks = times.map(|ticks| ticks.parse::<u64>().ok()).collect::<Option<Vec<_>>>()?;
    (ticks.len() == 2).then(|| ticks.into_iter().sum::<u64>() as f64 / TICKS_PER_SECOND)
}

/// The resident memory in `/proc/self/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let kibibytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    kibibytes.parse::<u64>().ok()?.checked_mul(1024)
}

/// The soft limit of open files in `/proc/self/limits`.
fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The path of the control group of version 2 in `/proc/self/cgroup`.
fn cgroup(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The memory limit of a control group; `None` if it has none.
fn memory_limit(cgroup: &str) -> Option<u64> {
    let file = Path::new("/sys/fs/cgroup").join(cgroup).join("memory.max");
    // Without a limit it is the word `max`.
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

impl Collector for Process {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(seconds) = self.cpu_seconds {
            let help = "Processor time that the process has used, in seconds";
            ConstCounter::new(seconds).encode(to.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                MetricType::Counter,
            )?)?;
        }
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Memory of the process that is not swapped out",
                self.resident_bytes,
            ),
            ("process_open_fds", "Open file descriptors; each connection is one", self.open_fds),
            ("process_max_fds", "The limit of open file descriptors (ulimit -n)", self.max_fds),
            ("crumbd_memory_limit_bytes", "The limit of memory of the control group", self.memory_limit),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            ConstGauge::new(value).encode(to.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_no_time() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 12";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a) S 1 7"), None);
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn the_group_is_that_of_version_2() {
        assert_eq!(
            cgroup("1:name=systemd:/a\n0::/system.slice/crumbd.service\n"),
            Some("system.slice/crumbd.service")
        );
        assert_eq!(cgroup("0::/\n"), Some(""));
        assert_eq!(cgroup("4:memory:/a\n"), None);
    }

    #[test]
    fn memory_and_limits_are_read_from_their_lines() {
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\n"), None);
        assert_eq!(
            max_fds("Limit  Soft  Hard\nMax open files            1024      524288   files\n"),
            Some(1024)
        );
        assert_eq!(
            max_fds("Max open files            unlimited            unlimited            files\n"),
            None
        );
    }
}

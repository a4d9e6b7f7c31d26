//! The CPU and the memory of a server on this machine, read from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Sub;
use std::time::Duration;

use serde::Serialize;

/// A server process and the processes that it has started.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// Nanoseconds of CPU by process and thread. Threads that have ended keep what they had when they
    /// were last seen, so the sum never falls.
    threads: HashMap<(u32, u32), u64>,
}

/// CPU time of the living threads of this process, cheap enough to be asked around a short piece of work.
pub fn own_cpu_time() -> Duration {
    let of = |thread: u32| -> Option<u64> {
        let spent = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
        spent.split_ascii_whitespace().next()?.parse().ok()
    };
    Duration::from_nanos(numbered("/proc/self/task").filter_map(of).sum())
}

/// CPU time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// All of it, to the nanosecond.
    pub total: Duration,
    /// The server's own code, to the tick (10 ms).
    pub user: Duration,
    /// The kernel's work for it, copying to sockets among it; to the tick.
    pub system: Duration,
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

impl Cpu {
    /// The exact total, divided as the ticks are divided.
    pub fn shared_out(self) -> Self {
        let ticks = self.user + self.system;
        if ticks.is_zero() {
            return self;
        }
        let user = self.total.mul_f64(self.user.as_secs_f64() / ticks.as_secs_f64());
        Self { total: self.total, user, system: self.total.saturating_sub(user) }
    }
}

impl Process {
    /// The process with this id, if it is there.
    pub fn with_pid(pid: u32) -> Option<Self> {
        fs::metadata(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, threads: HashMap::new() })
    }

    /// The process on this machine that listens there, if it is one that we may look at.
    pub fn listening_on(address: SocketAddr) -> Option<Self> {
        if !address.ip().is_loopback() {
            return None;
        }
        let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| listeners(&table, address.port()))
            .collect();
        // Workers have the listener of the process that started them, which is the oldest.
        let mut pids: Vec<u32> = numbered("/proc").collect();
        pids.sort_unstable();
        let has_socket = |pid: &u32| {
            let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
            files.flatten().any(|file| {
                let points_to = fs::read_link(file.path()).unwrap_or_default();
                points_to.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target))
            })
        };
        Self::with_pid(pids.into_iter().find(has_socket)?)
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// It and all that it has started.
    fn family(&self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> =
            numbered("/proc").filter_map(|pid| Some((pid, stat(pid, 4)?.parse().ok()?))).collect();
        let mut family = vec![self.pid];
        let mut at = 0;
        while let Some(parent) = family.get(at).copied() {
            family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        family
    }

    /// CPU time since the process began.
    pub fn cpu(&mut self) -> Cpu {
        let mut cpu = Cpu::default();
        for pid in self.family() {
            for thread in numbered(&format!("/proc/{pid}/task")) {
                let spent = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"));
                let spent = spent.ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
                if let Some(ns) = spent {
                    self.threads.insert((pid, thread), ns);
                }
            }
            cpu.user += ticks(pid, 14);
            cpu.system += ticks(pid, 15);
        }
        let exact = Duration::from_nanos(self.threads.values().sum());
        // Kernels without scheduler statistics have ticks only.
        cpu.total = if exact.is_zero() { cpu.user + cpu.system } else { exact };
        cpu
    }

    /// Bytes of memory in use now. What several processes share counts once.
    pub fn memory(&self) -> u64 {
        let family = self.family();
        let field = if family.len() == 1 { "Rss:" } else { "Pss:" };
        let of = |pid: u32| {
            kibibytes(&format!("/proc/{pid}/smaps_rollup"), field)
                .or_else(|| kibibytes(&format!("/proc/{pid}/status"), "VmRSS:"))
        };
        family.into_iter().filter_map(of).sum()
    }

    /// The same of one process, cheap enough to be asked all the time.
    pub fn memory_now(&self) -> u64 {
        kibibytes(&format!("/proc/{}/status", self.pid), "VmRSS:").unwrap_or(0)
    }

    /// Forgets the highest memory use so far. `false` where that is not allowed.
    pub fn forget_peak(&self) -> bool {
        self.family().iter().all(|pid| fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok())
    }

    /// The highest memory use since [`Process::forget_peak`], in bytes.
    pub fn peak(&self) -> u64 {
        let of = |pid: u32| kibibytes(&format!("/proc/{pid}/status"), "VmHWM:");
        self.family().into_iter().filter_map(of).sum()
    }
}

/// `socket:[inode]` of all who listen on the port.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local_port, 16).ok()? == port && *fields.get(3)? == LISTEN;
        is_it.then_some(format!("socket:[{}]", fields.get(9)?))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// The names of a directory that are numbers.
fn numbered(directory: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Field `n` of `/proc/PID/stat`, counted from 1 as in the manual. The second, a name in parentheses, may hold
/// anything.
fn stat(pid: u32, n: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(n - 3).map(str::to_owned)
}

fn ticks(pid: u32, field: usize) -> Duration {
    let ticks: u64 = stat(pid, field).and_then(|text| text.parse().ok()).unwrap_or(0);
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn kibibytes(path: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn who_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = Process::listening_on(listener.local_addr().unwrap()).unwrap();
        assert_eq!(found.pid(), std::process::id());
        assert!(found.memory() > 1 << 20);
    }

    #[test]
    fn work_is_seen_as_cpu_time() {
        let mut process = Process::with_pid(std::process::id()).unwrap();
        let before = process.cpu();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let spent = process.cpu() - before;
        assert!(spent.total > Duration::from_millis(5), "{spent:?}");
    }
}

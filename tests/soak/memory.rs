//! The daemon's memory over time.

use std::fmt;

/// Samples of the resident memory, in MiB.
#[derive(Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn of(samples: impl Into<Vec<f64>>) -> Samples {
        Samples(samples.into())
    }

    pub fn take(&mut self, pid: u32) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        self.0.push(kib.expect("the daemon runs") / 1024.0);
    }

    /// The means of the first, the middle and the last third.
    pub fn thirds(&self) -> [f64; 3] {
        let third = self.0.len() / 3;
        [0, 1, 2].map(|which| {
            let samples = &self.0[which * third..(which + 1) * third];
            samples.iter().sum::<f64>() / third as f64
        })
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, middle, last] = self.thirds();
        let most = self.0.iter().copied().fold(0.0, f64::max);
        write!(f, "{first:.1}, {middle:.1}, {last:.1}; at most {most:.1}")
    }
}

//! The daemon that is measured.

use std::time::Duration;

use clap::Args;
use crumbd::cli::{Daemon, Failure};
use crumbd_bench::load::{KeptConnection, LoadError, Process, Status, Target, need_open_files};
use tokio::time::{Instant, sleep};

/// How long waiters may take to be parked again once all have heard.
const PARKING: Duration = Duration::from_secs(30);

/// What every measurement takes.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) daemon: Daemon,
    /// The daemon's process, for its CPU and memory. By default: whoever listens at the address, when that is
    /// on this machine.
    #[arg(long)]
    pid: Option<u32>,
    /// Print the figures as one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// The daemon as it was found.
pub(super) struct Measured {
    pub(super) url: String,
    pub(super) target: Target,
    /// At the start.
    pub(super) status: Status,
    /// None when it is on another machine, or is somebody else's.
    pub(super) process: Option<Process>,
    asking: KeptConnection,
}

impl Options {
    /// Finds the daemon and makes sure that so many clients can be opened.
    pub(super) async fn find(&self, clients: usize) -> Result<Measured, Failure> {
        need_open_files(clients)?;
        let url = self.daemon.url.clone();
        let mut target = Target::resolve(&url, &self.daemon.tls()?).await?;
        if let Some(token) = self.daemon.token()? {
            target = target.with_token(&token)?;
        }
        let mut asking = KeptConnection::connect(&target).await?;
        let status = Status::ask(&mut asking).await.map_err(|error| target.explain(error))?;
        let process = match self.pid {
            None => Process::listening_on(target.address()),
            Some(pid) => {
                Some(Process::with_pid(pid).ok_or_else(|| format!("--pid {pid}: there is no such process"))?)
            }
        };
        Ok(Measured { url, target, status, process, asking })
    }
}

impl Measured {
    /// Fails unless the daemon takes writes.
    pub(super) fn must_be_writable(&self, instead: &str) -> Result<(), Failure> {
        if self.status.is_writable() {
            return Ok(());
        }
        let feed = &self.status.feed;
        let error = format!(
            "the daemon at {} gets its state from {feed}: only one with a push: feed can be written{instead}",
            self.url
        );
        Err(error.into())
    }

    /// The cursor where clients begin.
    pub(super) fn cursor(&self) -> Result<String, Failure> {
        let unknown = || format!("the daemon at {} has no state yet: it waits for its feed", self.url);
        Ok(self.status.cursor.clone().ok_or_else(unknown)?)
    }

    /// How the daemon is now.
    pub(super) async fn ask(&mut self) -> Result<Status, LoadError> {
        Status::ask(&mut self.asking).await
    }

    /// Waits until so many clients of ours are parked in the daemon.
    pub(super) async fn parked(&mut self, ours: usize) -> Result<(), LoadError> {
        let all = self.status.waiters + ours as u64;
        let end = Instant::now() + PARKING;
        let mut pause = Duration::from_millis(1);
        loop {
            let waiters = self.ask().await?.waiters;
            if waiters >= all {
                return Ok(());
            }
            if Instant::now() > end {
                let what = format!("{all} waiters parked in the daemon; {waiters} are");
                return Err(LoadError::Late { what, after: PARKING });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

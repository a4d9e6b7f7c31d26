//! Waiting until enough was heard.

use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use super::{Board, Counts};
use crate::load::LoadError;

impl Board {
    /// Waits for so many deliveries in all.
    ///
    /// # Errors
    /// [`LoadError::Clients`] as soon as one waiter has failed, [`LoadError::Late`].
    pub async fn delivered(&self, goal: u64, patience: Duration) -> Result<(), LoadError> {
        self.goal.store(goal, Release);
        let reached = self.until(patience, |counts| counts.deliveries >= goal).await;
        self.goal.store(u64::MAX, Release);
        reached.unwrap_or_else(|counts| {
            let what =
                format!("{} of {goal} deliveries; {} were", goal - counts.deliveries, counts.deliveries);
            Err(LoadError::Late { what, after: patience })
        })
    }

    /// Waits until every waiter's first request is out. `progress` hears how many are.
    ///
    /// # Errors
    /// [`LoadError::Clients`] as soon as one waiter has failed, [`LoadError::Late`].
    pub async fn all_asked(&self, patience: Duration, progress: impl Fn(u64)) -> Result<(), LoadError> {
        let all = self.last.len() as u64;
        let reached = self.until(patience, |counts| {
            progress(counts.asked);
            counts.asked >= all
        });
        reached.await.unwrap_or_else(|counts| {
            let what = format!("{} of {all} waiters could connect", counts.asked);
            Err(LoadError::Late { what, after: patience })
        })
    }

    /// Lets the time pass as long as no waiter fails.
    ///
    /// # Errors
    /// [`LoadError::Clients`] as soon as one has.
    pub async fn undisturbed(&self, time: Duration) -> Result<(), LoadError> {
        self.until(time, |_| false).await.unwrap_or(Ok(()))
    }

    /// `Err` holds the counts when the time is over.
    async fn until(
        &self,
        patience: Duration,
        reached: impl Fn(Counts) -> bool,
    ) -> Result<Result<(), LoadError>, Counts> {
        let wait = async {
            loop {
                if let Some(failure) = self.failure() {
                    return Err(failure);
                }
                if reached(self.counts()) {
                    return Ok(());
                }
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(patience, wait).await.map_err(|_| self.counts())
    }
}

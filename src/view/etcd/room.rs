//! The room that an answer takes in its client's account.

use crate::view::body_cache::UNCOUNTED_BYTES;
use crate::view::lease::Claim;
use crate::view::{Account, OverBudget};

/// Room in a client's account for an answer that is made piece by piece, until it is dropped. It is taken before a piece is
/// made. Small answers are not counted.
pub(crate) struct Room {
    account: Account,
    /// How many bytes there are in memory for each byte of the answer.
    copies: u64,
    claims: Vec<Claim>,
    /// Bytes that no claim is for yet.
    uncounted: u64,
}

impl Room {
    /// No room yet, for an answer of which there are so many copies while it is made.
    pub(crate) fn new(account: &Account, copies: u64) -> Self {
        Self { account: account.clone(), copies, claims: Vec::new(), uncounted: 0 }
    }

    /// Takes room for so many more bytes. Waits for it, unless the answer holds room already: answers that wait for each other
    /// would all wait in vain.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) async fn take(&mut self, bytes: u64) -> Result<(), OverBudget> {
        let Some(bytes) = self.note(bytes) else { return Ok(()) };
        if !self.claims.is_empty() {
            return self.claim_now(bytes);
        }
        let mut claim = self.account.claim();
        while let Err(lack) = claim.try_take(bytes) {
            claim.wait(lack).await?;
        }
        self.claims.push(claim);
        Ok(())
    }

    /// Takes room for so many more bytes if there is some now.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn take_now(&mut self, bytes: u64) -> Result<(), OverBudget> {
        self.note(bytes).map_or(Ok(()), |bytes| self.claim_now(bytes))
    }

    fn claim_now(&mut self, bytes: u64) -> Result<(), OverBudget> {
        let mut claim = self.account.claim();
        claim.take_now(bytes)?;
        self.claims.push(claim);
        Ok(())
    }

    /// Notes bytes of the answer; returns how many to claim now, once they are worth it.
    fn note(&mut self, bytes: u64) -> Option<u64> {
        self.uncounted += bytes.saturating_mul(self.copies);
        (self.uncounted > UNCOUNTED_BYTES as u64).then(|| std::mem::take(&mut self.uncounted))
    }
}

//! The health of the daemon's parts.
//!
//! A failed part often cannot report its failure: it hangs, or is gone. So each part reports again and again that it is
//! healthy, and a report expires. The idea is that of the health of Typha's components.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::Value;

/// The last report of a part.
#[derive(Clone, Copy, Debug)]
enum Report {
    /// The part was healthy at this time.
    Healthy(Instant),
    /// The part has failed for good.
    Failed(&'static str),
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    /// The lifetime of a report; `None` if reports do not expire.
    expires: Option<Duration>,
    report: Value<Report>,
}

/// The health of all parts together. Clones share it.
///
/// ```
/// use std::time::Duration;
/// use crumbd::value::Health;
///
/// let health = Health::default();
/// let reader = health.part("reader", Some(Duration::from_secs(30)));
/// assert!(health.unwell().is_none(), "a new part is healthy");
/// reader.failed("its file is gone");
/// assert_eq!(health.unwell().map(|unwell| unwell.part), Some("reader"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<RwLock<Vec<Arc<Part>>>>);

/// A handle with which one part reports its health.
#[derive(Debug)]
pub struct Reporter(Arc<Part>);

/// An unhealthy part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwell {
    /// The name of the part.
    pub part: &'static str,
    /// The reason, as a sentence.
    pub why: String,
}

impl Health {
    /// Adds a part, which is healthy now and must report that again before `expires` has passed.
    pub fn part(&self, name: &'static str, expires: Option<Duration>) -> Reporter {
        let report = Value::of(Report::Healthy(Instant::now()));
        let part = Arc::new(Part { name, expires, report });
        self.0.write().push(Arc::clone(&part));
        Reporter(part)
    }

    /// The first unhealthy part, in the order in which they were added.
    pub fn unwell(&self) -> Option<Unwell> {
        self.0.read().iter().find_map(|part| part.unwell())
    }
}

impl Part {
    fn unwell(&self) -> Option<Unwell> {
        let why = match (self.report.current()?, self.expires) {
            (Report::Failed(why), _) => why.to_owned(),
            (Report::Healthy(at), Some(expires)) if at.elapsed() >= expires => {
                let (silent, expires) = (at.elapsed().as_secs(), expires.as_secs());
                format!("it has not reported for {silent} s that it is healthy; the limit is {expires} s")
            }
            (Report::Healthy(_), _) => return None,
        };
        Some(Unwell { part: self.name, why })
    }
}

impl Reporter {
    /// Reports that the part is healthy.
    pub fn well(&self) {
        if let Some(Report::Healthy(_)) = self.0.report.current() {
            self.0.report.set(Report::Healthy(Instant::now()));
        }
    }

    /// Reports that the part has failed for good.
    pub fn failed(&self, why: &'static str) {
        self.0.report.set(Report::Failed(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRES: Duration = Duration::from_secs(30);

    fn who(health: &Health) -> Option<&'static str> {
        health.unwell().map(|unwell| unwell.part)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_part_is_unhealthy_until_its_next_report() {
        let health = Health::default();
        let (talks, silent) = (health.part("talks", Some(EXPIRES)), health.part("silent", Some(EXPIRES)));
        let _may_be_silent = health.part("may be silent", None);
        for _ in 0..29 {
            tokio::time::advance(Duration::from_secs(1)).await;
            talks.well();
            assert_eq!(who(&health), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(who(&health), Some("silent"));
        silent.well();
        assert_eq!(who(&health), None);
        tokio::time::advance(EXPIRES).await;
        assert_eq!(who(&health), Some("talks"), "the first of several");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_part_stays_failed() {
        let health = Health::default();
        let part = health.part("part", None);
        part.failed("it is gone");
        part.well();
        assert_eq!(health.unwell(), Some(Unwell { part: "part", why: "it is gone".to_owned() }));
    }
}

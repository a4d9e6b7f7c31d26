//! Parts that say that they are well.
//!
//! A part that has failed often cannot say so: it hangs, or is gone. So it says that it is *well*, again
//! and again, and what it said expires. The idea is that of the health of Typha's components.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::Value;

/// What a part has said last.
#[derive(Clone, Copy, Debug)]
enum Said {
    /// It was well then.
    Well(Instant),
    /// It will not be any more.
    Failed(&'static str),
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    /// For how long it counts that it is well; for ever if there is no limit.
    expires: Option<Duration>,
    said: Value<Said>,
}

/// The health of all parts together. Clones share it.
///
/// ```
/// use std::time::Duration;
/// use crumbd::value::Health;
///
/// let health = Health::default();
/// let reader = health.part("reader", Some(Duration::from_secs(30)));
/// assert!(health.unwell().is_none(), "whoever has just begun is well");
/// reader.failed("its file is gone");
/// assert_eq!(health.unwell().map(|unwell| unwell.part), Some("reader"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<RwLock<Vec<Arc<Part>>>>);

/// Says how one part is.
#[derive(Debug)]
pub struct Reporter(Arc<Part>);

/// A part that is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwell {
    /// Which.
    pub part: &'static str,
    /// Why, as a sentence.
    pub why: String,
}

impl Health {
    /// One more part, which is well now and has to say so again before that expires.
    pub fn part(&self, name: &'static str, expires: Option<Duration>) -> Reporter {
        let said = Value::of(Said::Well(Instant::now()));
        let part = Arc::new(Part { name, expires, said });
        self.0.write().push(Arc::clone(&part));
        Reporter(part)
    }

    /// The first part that is not well, in the order in which they came.
    pub fn unwell(&self) -> Option<Unwell> {
        self.0.read().iter().find_map(|part| part.unwell())
    }
}

impl Part {
    fn unwell(&self) -> Option<Unwell> {
        let why = match (self.said.current()?, self.expires) {
            (Said::Failed(why), _) => why.to_owned(),
            (Said::Well(at), Some(expires)) if at.elapsed() >= expires => {
                format!("it has not said for {} s that it is well", at.elapsed().as_secs())
            }
            (Said::Well(_), _) => return None,
        };
        Some(Unwell { part: self.name, why })
    }
}

impl Reporter {
    /// The part is well.
    pub fn well(&self) {
        if let Some(Said::Well(_)) = self.0.said.current() {
            self.0.said.set(Said::Well(Instant::now()));
        }
    }

    /// The part has failed for good.
    pub fn failed(&self, why: &'static str) {
        self.0.said.set(Said::Failed(why));
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
    async fn a_part_that_falls_silent_is_unwell_until_it_says_that_it_is_well() {
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
    async fn a_part_that_has_failed_stays_so() {
        let health = Health::default();
        let part = health.part("part", None);
        part.failed("it is gone");
        part.well();
        assert_eq!(health.unwell(), Some(Unwell { part: "part", why: "it is gone".to_owned() }));
    }
}

//! What is counted.

use std::sync::atomic::{AtomicU64, Ordering::Acquire};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub(super) $name: AtomicU64),* }

        /// What was counted, for all waiters together.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Counts { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            pub(super) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Acquire)),* }
            }
        }
    };
}

counters! {
    /// Waiters whose first request is out.
    asked,
    /// Answers with something in them.
    wakes,
    /// Publications heard: one per waiter and number.
    deliveries,
    /// Wakes that brought no publication: other writers' changes.
    others,
    /// Long polls that ended with nothing (204).
    idle,
    /// Publications that an answer left out although it says that it goes beyond them.
    holes,
    /// Answers 503 and 429; the waiter came back later.
    refused,
    /// Connections that were made again.
    reconnects,
    /// Bytes of bodies.
    body_bytes,
    /// Waiters that gave up.
    failed,
}

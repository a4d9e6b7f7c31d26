//! A scene: what a daemon does to a client, and what the client has to do then.

use std::fmt;
use std::pin::Pin;

use super::rule::Rule;
use super::stage::{Broken, Stage};

/// How a client follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    /// Long polls.
    Poll,
    /// `/v1/stream`.
    Stream,
}

impl Transport {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Poll, Self::Stream];

    /// The name in `CRUMBD_TRANSPORT`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Stream => "stream",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a scene is made of while it is played.
pub(super) type Play<'a> = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send + 'a>>;

/// A scene.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) rule: Rule,
    /// What happens, in one sentence.
    pub(crate) sentence: &'static str,
    pub(crate) transports: &'static [Transport],
    pub(super) play: for<'a> fn(&'a mut Stage) -> Play<'a>,
}

pub(super) const BOTH: &[Transport] = &Transport::ALL;
pub(super) const POLL: &[Transport] = &[Transport::Poll];
pub(super) const STREAM: &[Transport] = &[Transport::Stream];

/// Makes a scene of a function.
macro_rules! scene {
    ($name:literal, $rule:ident, $transports:ident, $play:ident, $sentence:literal) => {
        $crate::conform::scene::Scene {
            name: $name,
            rule: $crate::conform::rule::Rule::$rule,
            sentence: $sentence,
            transports: $crate::conform::scene::$transports,
            play: |stage| Box::pin($play(stage)),
        }
    };
}
pub(super) use scene;

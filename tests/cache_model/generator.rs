//! Random histories, in a form that shrinks well.

use crumbd::model::{Grouping, SyncStatus};
use proptest::prelude::*;
use proptest::sample::select;

use super::{KEYS, VALUES};

/// A number of a revision, seen from where the model stands when the burst is made.
pub type Relative = i64;

#[derive(Clone, Debug)]
pub struct Wanted {
    pub key: usize,
    /// `None` deletes.
    pub value: Option<(usize, Option<u32>)>,
    pub claim: Option<Relative>,
}

#[derive(Clone, Debug)]
pub enum Guard {
    Exists(usize),
    Absent(usize),
    /// The revision is right, or wrong by so much.
    AtOneOf(usize, u64),
    AtNoneOf(usize, u64),
}

#[derive(Clone, Debug)]
pub enum Op {
    ByRevision(Vec<Wanted>),
    Whole(Vec<Wanted>),
    /// A write whose author waits for the answer.
    Write(Vec<Wanted>, Option<Guard>, Grouping),
    Replace(Vec<Wanted>),
    Status(SyncStatus),
    /// Also an abandoned one, when one is going on.
    Begin {
        other_history: bool,
        whole_at: Option<Relative>,
        lossy: bool,
    },
    /// What happened before the last lossy resync.
    Past {
        /// Of that one, and not of another.
        right: bool,
        /// So many revisions before its end it begins, and so many it ends. `None`: nobody knows.
        reach: Option<(Relative, Relative)>,
    },
    /// Also one without a begin.
    End {
        revision: Option<Relative>,
        complete: bool,
    },
}

/// What is in the buffer when the ingest task gets to it.
pub type Burst = Vec<Op>;

#[derive(Clone, Debug)]
pub struct Setting {
    pub max_batch: usize,
    pub max_count: usize,
    pub ring: bool,
    pub history_is_known: bool,
}

pub fn claim() -> impl Strategy<Value = Option<Relative>> {
    prop_oneof![3 => Just(None), 4 => (1..6i64).prop_map(Some), 1 => (-4..1i64).prop_map(Some)]
}

pub fn wanted() -> impl Strategy<Value = Wanted> {
    let key = prop_oneof![20 => 0..KEYS.len() - 1, 1 => Just(KEYS.len() - 1)];
    let content = prop_oneof![10 => 0..VALUES.len() - 2, 1 => VALUES.len() - 2..VALUES.len()];
    let ttl = prop_oneof![4 => Just(None), 1 => (1..3u32).prop_map(Some)];
    let value = prop_oneof![3 => (content, ttl).prop_map(Some), 1 => Just(None)];
    (key, value, claim()).prop_map(|(key, value, claim)| Wanted { key, value, claim })
}

/// A key that is set to one value, to another, and back, or is deleted in between, in one revision or in several.
pub fn there_and_back() -> impl Strategy<Value = Vec<Wanted>> {
    let claims = prop_oneof![claim().prop_map(|claim| [claim; 3]), [claim(), claim(), claim()]];
    (wanted(), prop::option::of(0..VALUES.len() - 1), claims).prop_map(|(there, between, claims)| {
        let value = between.map(|value| (value, None));
        let values = [there.value, value, there.value];
        let wanted = |(value, claim)| Wanted { value, claim, ..there.clone() };
        values.into_iter().zip(claims).map(wanted).collect()
    })
}

/// Changes of one batch.
pub fn some() -> BoxedStrategy<Vec<Wanted>> {
    let any = || prop::collection::vec(wanted(), 0..7);
    prop_oneof![
        4 => any(),
        1 => (there_and_back(), any()).prop_map(|(one, other)| [one, other].concat()),
        1 => (there_and_back(), there_and_back()).prop_map(|(one, other)| {
            one.into_iter().zip(other).flat_map(|(one, other)| [one, other]).collect()
        }),
    ]
    .boxed()
}

pub fn guard() -> impl Strategy<Value = Guard> {
    let key = 0..KEYS.len() - 1;
    prop_oneof![
        key.clone().prop_map(Guard::Exists),
        key.clone().prop_map(Guard::Absent),
        (key.clone(), 0..2u64).prop_map(|(key, wrong)| Guard::AtOneOf(key, wrong)),
        (key, 0..2u64).prop_map(|(key, wrong)| Guard::AtNoneOf(key, wrong)),
    ]
}

pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => some().prop_map(Op::ByRevision),
        3 => some().prop_map(Op::Whole),
        1 => some().prop_map(Op::Replace),
        3 => (some(), prop::option::of(guard()), prop::bool::weighted(0.2)).prop_map(
            |(wanted, guard, replace)| {
                let grouping = if replace { Grouping::Replace } else { Grouping::Whole };
                Op::Write(wanted, guard, grouping)
            }),
        3 => select(&SyncStatus::ALL[..]).prop_map(Op::Status),
        2 => (prop::bool::weighted(0.3), claim(), prop::bool::weighted(0.3)).prop_map(
            |(other_history, whole_at, lossy)| Op::Begin { other_history, whole_at, lossy }),
        1 => (prop::bool::weighted(0.9), prop::option::weighted(0.8, (0..9i64, 0..4i64))).prop_map(|(right, reach)| Op::Past { right, reach }),
        3 => (claim(), prop::bool::weighted(0.8))
            .prop_map(|(revision, complete)| Op::End { revision, complete }),
    ]
}

pub fn history() -> impl Strategy<Value = Vec<Burst>> {
    prop::collection::vec(prop::collection::vec(op(), 1..6), 1..14)
}

pub fn setting() -> impl Strategy<Value = Setting> {
    let max_count = prop_oneof![3 => Just(10_000usize), 1 => 1..6usize];
    (1..12usize, max_count, any::<bool>(), any::<bool>()).prop_map(
        |(max_batch, max_count, ring, history_is_known)| Setting {
            max_batch,
            max_count,
            ring,
            history_is_known,
        },
    )
}

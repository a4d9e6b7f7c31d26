//! The promises of `Buffer`, tested with each implementation: here with one caller, in
//! `waiting.rs` with waiting callers, in `together.rs` with many at once.

mod together;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Buffer, BufferReadError, BufferWriteError, CapacityError, Channel, IngestBuffer, LockingRing};

/// One of each kind.
fn both<T>(capacity: usize) -> [IngestBuffer<T>; 2] {
    [
        IngestBuffer::channel(capacity).expect("a good capacity"),
        IngestBuffer::ring(capacity).expect("a good capacity"),
    ]
}

#[test]
fn a_capacity_of_0_or_beyond_memory_is_refused() {
    assert_eq!(Channel::<u64>::new(0).err(), Some(CapacityError::Zero));
    assert_eq!(LockingRing::<u64>::new(0).err(), Some(CapacityError::Zero));
    let too_large = Some(CapacityError::TooLarge { capacity: usize::MAX });
    assert_eq!(Channel::<u64>::new(usize::MAX).err(), too_large);
    assert_eq!(LockingRing::<u64>::new(usize::MAX).err(), too_large);
}

/// Ensign's `TestChannel` and `TestRingSingle`.
#[test]
fn one_slot_is_filled_and_emptied_again_and_again() {
    for buffer in both(1) {
        assert_eq!(buffer.try_read(), Err(BufferReadError::Empty));
        let first = Arc::new(0);
        buffer.try_write(Arc::clone(&first)).expect("room");
        assert!(matches!(buffer.try_write(Arc::new(1)), Err(BufferWriteError::Full(_))));
        assert!(Arc::ptr_eq(&buffer.try_read().expect("an item"), &first));
        assert_eq!(buffer.try_read(), Err(BufferReadError::Empty));
        for number in 0..10_000 {
            buffer.try_write(Arc::new(number)).expect("room");
            assert_eq!(buffer.try_read().as_deref(), Ok(&number));
        }
        assert!(buffer.is_empty());
    }
}

/// Ensign's `TestRingBuffer`.
#[test]
fn exactly_capacity_items_fit() {
    for buffer in both(10) {
        assert_eq!(buffer.capacity(), 10);
        for number in 0..10 {
            assert_eq!(buffer.len(), number);
            buffer.try_write(number).expect("room");
        }
        assert_eq!(buffer.try_write(10), Err(BufferWriteError::Full(10)));
        for number in 0..10 {
            assert_eq!(buffer.try_read(), Ok(number));
        }
        assert_eq!(buffer.try_read(), Err(BufferReadError::Empty));
    }
}

#[test]
fn order_holds_when_the_ring_wraps_around() {
    for buffer in both(5) {
        let (mut written, mut read) = (0, 0);
        for _ in 0..100 {
            while written - read < 4 {
                buffer.try_write(written).expect("room");
                written += 1;
            }
            while written - read > 1 {
                assert_eq!(buffer.try_read(), Ok(read));
                read += 1;
            }
        }
    }
}

#[test]
fn a_refused_item_is_handed_back_with_the_reason() {
    struct Opaque(u32);
    for buffer in both(1) {
        buffer.try_write(Opaque(1)).unwrap_or_else(|_| panic!("room"));
        let full = buffer.try_write(Opaque(2)).expect_err("full");
        assert_eq!(format!("{full:?}"), "Full(..)");
        assert!(full.to_string().contains("full"));
        assert!(matches!(full, BufferWriteError::Full(Opaque(2))));
        buffer.close();
        let closed = buffer.try_write(Opaque(3)).expect_err("closed");
        let closed: Box<dyn std::error::Error> = Box::new(closed);
        assert!(closed.to_string().contains("closed"));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(u32),
    Read,
    Close,
}

proptest! {
    #[test]
    fn a_buffer_behaves_like_a_bounded_queue(
        capacity in 1..9_usize,
        steps in prop::collection::vec(
            prop_oneof![
                12 => any::<u32>().prop_map(Step::Write),
                10 => Just(Step::Read),
                1 => Just(Step::Close),
            ],
            0..200,
        ),
    ) {
        for buffer in both(capacity) {
            let (mut queue, mut open) = (VecDeque::new(), true);
            for step in &steps {
                match step {
                    Step::Write(item) => {
                        let expected = if !open {
                            Err(BufferWriteError::Closed(*item))
                        } else if queue.len() == capacity {
                            Err(BufferWriteError::Full(*item))
                        } else {
                            queue.push_back(*item);
                            Ok(())
                        };
                        prop_assert_eq!(buffer.try_write(*item), expected);
                    }
                    Step::Read => {
                        let none = if open { BufferReadError::Empty } else { BufferReadError::Closed };
                        prop_assert_eq!(buffer.try_read(), queue.pop_front().ok_or(none));
                    }
                    Step::Close => {
                        buffer.close();
                        open = false;
                    }
                }
                prop_assert_eq!(buffer.len(), queue.len());
                prop_assert_eq!(buffer.is_empty(), queue.is_empty());
            }
        }
    }
}

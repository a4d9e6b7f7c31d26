//! Readers and a writer of every speed, under a paused clock: sleeps cost no time, and each run is the same.

use std::time::Duration;

use super::super::EventBuffer;

/// A Zipf-distributed sleep: mostly 0 or 1 ms, seldom long, never over 50 ms.
struct ZipfSleep {
    state: u64,
}

impl ZipfSleep {
    const LONGEST_MS: u32 = 50;
    /// With this exponent and this offset.
    const S: f64 = 1.5;
    const V: f64 = 1.5;

    fn of(seed: u64) -> Self {
        Self { state: seed }
    }

    async fn sleep(&mut self, weights: &[f64]) {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let total: f64 = weights.iter().sum();
        let mut left =
            f64::from(u32::try_from(self.state >> 33).expect("31 bits")) / f64::from(1_u32 << 31) * total;
        let mut ms = 0;
        for weight in weights {
            left -= weight;
            if left < 0.0 {
                break;
            }
            ms += 1;
        }
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
}

fn weights() -> Vec<f64> {
    (0..=ZipfSleep::LONGEST_MS).map(|ms| (ZipfSleep::V + f64::from(ms)).powf(-ZipfSleep::S)).collect()
}

/// The shape of Consul's `TestEventBufferFuzz`, with its sleeps.
#[tokio::test(start_paused = true)]
async fn a_thousand_readers_of_any_speed_each_see_a_thousand_items_once_in_order() {
    let mut buffer = EventBuffer::new();
    let readers: Vec<_> = (0..1000_u64)
        .map(|seed| {
            let mut at = buffer.head();
            tokio::spawn(async move {
                let (mut zipf, weights) = (ZipfSleep::of(seed), weights());
                for index in 0..1000_u32 {
                    at = at.next().await.expect("open");
                    assert_eq!(at.value(), Some(&index));
                    zipf.sleep(&weights).await;
                }
            })
        })
        .collect();
    let (mut zipf, weights) = (ZipfSleep::of(4711), weights());
    for index in 0..1000 {
        buffer.append(index).expect("open");
        zipf.sleep(&weights).await;
    }
    for reader in readers {
        reader.await.expect("reader");
    }
}

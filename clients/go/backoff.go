package crumbd

import (
	"context"
	"math/rand"
	"time"
)

const (
	// firstPause is the bound of the first pause; it doubles with each failure, up to longestPause.
	firstPause   = 200 * time.Millisecond
	longestPause = 8 * time.Second
	// burst is how many failures in a row are followed by their random pause alone. Further ones are at least
	// tokenEvery apart, because random pauses can all be short.
	burst      = 3
	tokenEvery = time.Second
)

// backoff decides the pause after a failure: drawn at random between nothing and a bound that grows ("full jitter"),
// so that clients that failed together do not come back together. A token bucket limits how often it may fail.
type backoff struct {
	failures int
	// full is when the bucket will be full again.
	full time.Time
}

// succeeded ends a row of failures.
func (b *backoff) succeeded() { b.failures = 0 }

// failed counts a failure and returns the pause after it.
func (b *backoff) failed(now time.Time) time.Duration {
	bound := longestPause
	if b.failures < 16 {
		bound = min(longestPause, firstPause<<b.failures)
	}
	b.failures++
	pause := time.Duration(rand.Int63n(int64(bound)) + 1)
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(tokenEvery)
	if wait := b.full.Sub(now) - burst*tokenEvery; wait > pause {
		pause = wait
	}
	return pause
}

// sleep waits for the pause; it returns early with the context's error.
func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

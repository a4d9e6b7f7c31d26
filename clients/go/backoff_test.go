package crumbd

import (
	"net/http"
	"testing"
	"time"
)

// A simulated outage: the client asks, fails at once, and pauses.
func TestPausesGrowAndFewRequestsAreMade(t *testing.T) {
	var late int
	for run := 0; run < 500; run++ {
		b := &backoff{}
		start := time.Unix(1_000_000, 0)
		now, early := start, 0
		for failures := 0; failures < 40; failures++ {
			if now.Sub(start) < 5*time.Second {
				early++
			}
			pause := b.failed(now)
			if pause <= 0 || pause > 30*time.Second {
				t.Fatalf("a pause of %v", pause)
			}
			if now.Sub(start) <= 3*time.Second && now.Add(pause).Sub(start) > 13*time.Second {
				t.Fatalf("back %v after the start of an outage of 3 s", now.Add(pause).Sub(start))
			}
			if failures > 10 && pause > 2*time.Second {
				late++
			}
			now = now.Add(pause)
		}
		if early > 9 {
			t.Fatalf("%d requests in the first 5 s", early)
		}
	}
	if late < 500*10 {
		t.Errorf("only %d of the later pauses are longer than 2 s", late)
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                     0,
		"7":                    7 * time.Second,
		"-1":                   0,
		"soon":                 0,
		"0":                    0,
		"1.5":                  0,
		"300":                  5 * time.Minute,
		"99999999":             5 * time.Minute,
		"99999999999999999999": 5 * time.Minute,
		now.Add(time.Hour).Format(http.TimeFormat):   5 * time.Minute,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute,
		now.Add(-time.Hour).Format(http.TimeFormat):  0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

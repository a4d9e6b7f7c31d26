// Command bench measures a mirror: the first state, and then the updates up to a state that has a digest.
//
//	go run ./cmd/bench URL poll|stream DIGEST ROUNDS
//
// `cargo bench --bench client_languages` runs it. It prints one line of JSON with the medians of the rounds.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"syscall"
	"time"

	crumbd "github.com/crumbd/crumbd/clients/go"
)

// limit is how long a round may take.
const limit = 2 * time.Minute

// figures are in seconds. CPU time is that of the process, user and system.
type figures struct {
	Keys       int     `json:"keys"`
	State      float64 `json:"state"`
	StateCPU   float64 `json:"state_cpu"`
	Updates    float64 `json:"updates"`
	UpdatesCPU float64 `json:"updates_cpu"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 || args[1] != "poll" && args[1] != "stream" {
		return fmt.Errorf("usage: bench URL poll|stream DIGEST ROUNDS")
	}
	opts := crumbd.Options{Endpoints: args[:1]}
	if args[1] == "stream" {
		opts.Transport = crumbd.Stream
	}
	digest, err := crumbd.ParseDigest(args[2])
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[3])
	if err != nil || count < 1 {
		return fmt.Errorf("ROUNDS is %q: it must be a positive number", args[3])
	}
	rounds := make([]figures, count)
	for i := range rounds {
		if rounds[i], err = round(opts, digest); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(medians(rounds))
}

func round(opts crumbd.Options, digest crumbd.Digest) (figures, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	mirror := crumbd.NewMirror(opts)
	ended := make(chan struct{})
	begun, begunCPU := time.Now(), cpu()
	go func() {
		defer close(ended)
		_ = mirror.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	if err := mirror.WaitForSync(ctx); err != nil {
		return figures{}, err
	}
	synced, syncedCPU := time.Now(), cpu()
	for mirror.Digest() != digest {
		if ctx.Err() != nil {
			return figures{}, fmt.Errorf("after %v the digest is %s, not %s", limit, mirror.Digest(), digest)
		}
		time.Sleep(time.Millisecond)
	}
	return figures{
		Keys:       mirror.Len(),
		State:      synced.Sub(begun).Seconds(),
		StateCPU:   (syncedCPU - begunCPU).Seconds(),
		Updates:    time.Since(synced).Seconds(),
		UpdatesCPU: (cpu() - syncedCPU).Seconds(),
	}, nil
}

func cpu() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func medians(rounds []figures) figures {
	median := func(of func(figures) float64) float64 {
		var all []float64
		for _, one := range rounds {
			all = append(all, of(one))
		}
		sort.Float64s(all)
		return all[len(all)/2]
	}
	return figures{
		Keys:       rounds[0].Keys,
		State:      median(func(f figures) float64 { return f.State }),
		StateCPU:   median(func(f figures) float64 { return f.StateCPU }),
		Updates:    median(func(f figures) float64 { return f.Updates }),
		UpdatesCPU: median(func(f figures) float64 { return f.UpdatesCPU }),
	}
}

// Command conform is the program that "crumbd conform" runs to prove this library:
//
//	go build -o /tmp/conform-go ./cmd/conform && crumbd conform -- /tmp/conform-go
//
// It follows the daemon that the environment names and prints what it is told, one JSON object a line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	crumbd "github.com/crumbd/crumbd/clients/go"
)

// change is a change as a line says it; encoding/json writes bytes as base64.
type change struct {
	Type  string  `json:"type"`
	Key   []byte  `json:"key"`
	Value *[]byte `json:"value,omitempty"`
}

// applied is the line of an event.
type applied struct {
	Cursor  string        `json:"cursor"`
	Status  crumbd.Status `json:"status"`
	Count   int           `json:"count"`
	Digest  string        `json:"digest"`
	Changes []change      `json:"changes"`
}

// application is what an application would have made of the changes that it was told.
type application struct {
	values map[string][]byte
	digest crumbd.Digest
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	err := run(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		say(map[string]string{"fatal": err.Error()})
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	opts, err := options()
	if err != nil {
		return err
	}
	follower := crumbd.Follow(ctx, opts)
	defer follower.Close()
	app := application{values: map[string][]byte{}}
	for {
		event, err := follower.Next()
		if err != nil {
			return err
		}
		line := applied{Cursor: event.Cursor, Status: event.Status, Changes: []change{}}
		for _, c := range event.Changes {
			line.Changes = append(line.Changes, app.take(c))
		}
		line.Count, line.Digest = len(app.values), app.digest.String()
		if line.Count != event.Count || app.digest != event.Digest {
			return fmt.Errorf("the changes lead to %d keys and digest %s, the event names %d and %s",
				line.Count, line.Digest, event.Count, event.Digest)
		}
		say(line)
	}
}

// take applies a change, and returns its line.
func (a *application) take(c crumbd.Change) change {
	if old, ok := a.values[string(c.Key)]; ok {
		a.digest = a.digest.Sub(crumbd.EntryDigest(c.Key, old))
	}
	out := change{Type: c.Type.String(), Key: c.Key}
	if c.Type == crumbd.Deleted {
		delete(a.values, string(c.Key))
		return out
	}
	a.values[string(c.Key)] = c.Value
	a.digest = a.digest.Add(crumbd.EntryDigest(c.Key, c.Value))
	out.Value = &c.Value
	return out
}

func options() (crumbd.Options, error) {
	opts := crumbd.Options{
		Endpoints:  strings.Split(os.Getenv("CRUMBD_URL"), ","),
		Prefix:     []byte(os.Getenv("CRUMBD_PREFIX")),
		CAFile:     os.Getenv("CRUMBD_CA_FILE"),
		Token:      os.Getenv("CRUMBD_TOKEN"),
		AllowEmpty: os.Getenv("CRUMBD_ALLOW_EMPTY") == "1",
		OnRetry: func(err error, _ time.Duration) {
			var empty *crumbd.EmptyStateError
			if errors.As(err, &empty) {
				say(map[string]int{"held": empty.Held})
				return
			}
			say(map[string]string{"retry": err.Error()})
		},
	}
	switch transport := os.Getenv("CRUMBD_TRANSPORT"); transport {
	case "", "poll":
	case "stream":
		opts.Transport = crumbd.Stream
	default:
		return opts, fmt.Errorf("CRUMBD_TRANSPORT is %q: it must be poll or stream", transport)
	}
	if text := os.Getenv("CRUMBD_TIMEOUT_MS"); text != "" {
		ms, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return opts, fmt.Errorf("CRUMBD_TIMEOUT_MS is %q: it must be a number of milliseconds", text)
		}
		opts.Timeout = time.Duration(ms) * time.Millisecond
	}
	return opts, nil
}

// say prints one line. os.Stdout is not buffered.
func say(line any) {
	text, err := json.Marshal(line)
	if err == nil {
		_, err = os.Stdout.Write(append(text, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

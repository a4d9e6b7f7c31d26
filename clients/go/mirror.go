package crumbd

import (
	"context"
	"errors"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
)

// Entry is a key and its value. The slices are shared with the mirror: read them, do not write to them.
type Entry struct {
	Key, Value []byte
}

// Mirror keeps the state of a daemon in memory and calls handlers about its changes. Its methods may be called from any
// goroutine, also from handlers, before and during Run. After Run it keeps its last state.
type Mirror struct {
	opts  Options
	state *state

	// handlers are registered and told under the state's lock, so that each is told every change exactly once.
	handlers map[*Registration]struct{}
	// heard counts the handlers, and those that are about to be registered.
	heard atomic.Int64
	// ctx is that of Run; nil before.
	ctx     context.Context
	running sync.WaitGroup

	started    atomic.Bool
	synced     chan struct{}
	syncedOnce sync.Once
	ended      chan struct{}
	err        error
}

// NewMirror returns an empty mirror. Run fills it.
func NewMirror(opts Options) *Mirror {
	m := &Mirror{
		opts:     opts,
		state:    newState(),
		handlers: map[*Registration]struct{}{},
		synced:   make(chan struct{}),
		ended:    make(chan struct{}),
	}
	m.state.onApply = m.applied
	m.state.unheard = func() bool { return m.heard.Load() == 0 }
	return m
}

// Run follows the daemon until the context ends, or until going on cannot help. It returns why, after the handlers that
// were being called have returned. A mirror runs once.
func (m *Mirror) Run(ctx context.Context) error {
	if m.started.Swap(true) {
		return errors.New("the mirror runs already, or has run: make another one")
	}
	ctx, cancel := context.WithCancel(ctx)
	follower := follow(ctx, m.opts, m.state)
	m.state.mu.Lock()
	m.ctx = ctx
	for handler := range m.handlers {
		m.start(handler)
	}
	m.state.mu.Unlock()

	var err error
	for err == nil {
		_, err = follower.Next()
	}
	m.state.mu.Lock() // No handler is started after this.
	m.err = err
	close(m.ended)
	m.state.mu.Unlock()
	cancel()
	m.running.Wait()
	return err
}

// applied is called under the state's write lock.
func (m *Mirror) applied(event Event) {
	for handler := range m.handlers {
		handler.add(event)
	}
	if event.Status == InSync {
		m.syncedOnce.Do(func() { close(m.synced) })
	}
}

// HasSynced reports whether the mirror has held a state of a daemon that was in-sync.
func (m *Mirror) HasSynced() bool {
	select {
	case <-m.synced:
		return true
	default:
		return false
	}
}

// WaitForSync waits until HasSynced. It returns an error if the context or Run ends before.
func (m *Mirror) WaitForSync(ctx context.Context) (err error) {
	select {
	case <-m.synced:
	case <-ctx.Done():
		err = ctx.Err()
	case <-m.ended:
		err = m.err
	}
	if m.HasSynced() { // Of several cases that hold, select takes any.
		return nil
	}
	return err
}

// Get returns the value of a key.
func (m *Mirror) Get(key []byte) (value []byte, ok bool) {
	m.state.mu.RLock()
	defer m.state.mu.RUnlock()
	return m.state.value(key)
}

// List returns the entries whose keys begin with the prefix, in the order of their keys. They are of one moment. The
// first List after a key came or went sorts the keys.
func (m *Mirror) List(prefix []byte) []Entry {
	m.state.mu.RLock()
	defer m.state.mu.RUnlock()
	keys := m.state.sortedKeys()
	begins := string(prefix)
	first := sort.SearchStrings(keys, begins)
	var out []Entry
	for _, key := range keys[first:] {
		if !strings.HasPrefix(key, begins) {
			break
		}
		out = append(out, Entry{Key: []byte(key), Value: m.state.values[key]})
	}
	return out
}

// Len returns the number of keys.
func (m *Mirror) Len() int {
	m.state.mu.RLock()
	defer m.state.mu.RUnlock()
	return len(m.state.values)
}

// Digest returns the fingerprint of the state.
func (m *Mirror) Digest() Digest {
	m.state.mu.RLock()
	defer m.state.mu.RUnlock()
	return m.state.digest
}

// Status returns the status that the daemon last told; empty before the first state.
func (m *Mirror) Status() Status {
	m.state.mu.RLock()
	defer m.state.mu.RUnlock()
	return m.state.status
}

// Cursor returns the position of the state; empty before the first one.
func (m *Mirror) Cursor() string {
	m.state.mu.RLock()
	defer m.state.mu.RUnlock()
	return m.state.cursor
}

package crumbd

import (
	"bytes"
	"sort"
	"sync"
)

// state is what the application knows. Only the follower changes it; anybody may read it meanwhile, under the lock.
//
// After a resync it may hold keys that the daemon does not have, because the daemon is not in-sync yet and may only not
// have heard of them again. Those are `unsettled`; their deletions are told once the daemon is in-sync.
type state struct {
	mu        sync.RWMutex
	values    map[string][]byte
	unsettled map[string]struct{}
	// digest is that of values, and daemonSum that of the daemon's state: values without what is unsettled.
	digest, daemonSum Digest
	status            Status
	cursor            string
	// begun: a whole state was read once.
	begun bool
	// sorted are the keys in order; nil after a key came or went, until somebody asks. Readers, who hold mu for reading,
	// make it under sorting.
	sorting sync.Mutex
	sorted  []string

	hash hasher
	// onApply, if set, is called with each event under the write lock.
	onApply func(Event)
	// unheard, if set, says that nobody reads changes now, so that none need be made of a large snapshot.
	unheard func() bool
}

func newState() *state { return &state{values: map[string][]byte{}} }

// value is for the follower alone, which need not lock to read.
func (s *state) value(key []byte) ([]byte, bool) {
	value, ok := s.values[string(key)]
	return value, ok
}

// daemonCount is how many keys the daemon's state has.
func (s *state) daemonCount() int { return len(s.values) - len(s.unsettled) }

// update applies a whole body of updates. If it does not lead to the state that it names, nothing is applied. It
// reports whether there is anything to tell.
func (s *state) update(b *body) (Event, bool, error) {
	// The last update of each key is the one that counts.
	last := make(map[string]int, len(b.updates))
	for i, update := range b.updates {
		last[update.key] = i
	}
	count, sum := s.daemonCount(), s.daemonSum
	for key, i := range last {
		name := []byte(key)
		if old, ok := s.settled(key); ok {
			count--
			sum = sum.Sub(s.hash.entry(name, old))
		}
		if update := b.updates[i]; !update.deleted {
			count++
			sum = sum.Add(s.hash.entry(name, update.value))
		}
	}
	if err := b.check(count, sum); err != nil {
		return Event{}, false, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.status
	s.take(b)
	s.daemonSum = sum
	var changes []Change
	for i, update := range b.updates {
		if last[update.key] != i {
			continue
		}
		if update.deleted {
			changes = s.remove(changes, update.key)
		} else {
			changes = s.set(changes, update.key, update.value)
		}
	}
	if s.status == InSync {
		for key := range s.unsettled {
			changes = s.remove(changes, key)
		}
	}
	event := s.event(changes)
	tell := len(changes) > 0 || s.status != before
	if tell && s.onApply != nil {
		s.onApply(event)
	}
	return event, tell, nil
}

// replace takes a whole state, which was checked. It reports whether there is anything to tell.
func (s *state) replace(b *body, gap Gap) (Event, bool) {
	unsettled := map[string]struct{}{}
	digest := b.sum
	inSync := Status(b.status) == InSync || b.status == "" && s.status == InSync
	var gone []Change
	for key, old := range s.values {
		if _, ok := b.entries[key]; ok {
			continue
		}
		if inSync {
			gone = append(gone, Change{Type: Deleted, Key: []byte(key), Old: old})
			continue
		}
		unsettled[key] = struct{}{}
		digest = digest.Add(s.hash.entry([]byte(key), old))
	}
	var changes []Change
	skip := s.unheard != nil && s.unheard()
	if !skip {
		changes = append(s.difference(b.entries), gone...)
	}
	for key := range unsettled {
		b.entries[key] = s.values[key]
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if skip && !s.unheard() { // Somebody began to read meanwhile.
		changes = append(s.difference(b.entries), gone...)
	}
	tell := !s.begun || len(s.values) != len(b.entries) || s.digest != digest
	status, cursor := s.status, s.cursor
	s.take(b)
	tell = tell || s.status != status || s.cursor != cursor
	s.values, s.unsettled, s.sorted = b.entries, unsettled, nil
	s.digest, s.daemonSum = digest, b.sum
	s.begun = true
	event := s.event(changes)
	event.Snapshot, event.Gap = true, gap
	if tell && s.onApply != nil {
		s.onApply(event)
	}
	return event, tell
}

// difference returns what entries set.
func (s *state) difference(entries map[string][]byte) []Change {
	var changes []Change
	if len(s.values) == 0 {
		changes = make([]Change, 0, len(entries))
	}
	for key, value := range entries {
		old, ok := s.values[key]
		switch {
		case !ok:
			changes = append(changes, Change{Type: New, Key: []byte(key), Value: value})
		case !bytes.Equal(old, value):
			changes = append(changes, Change{Type: Updated, Key: []byte(key), Value: value, Old: old})
		}
	}
	return changes
}

// settled returns the value of a key of the daemon's state.
func (s *state) settled(key string) ([]byte, bool) {
	if _, held := s.unsettled[key]; held {
		return nil, false
	}
	value, ok := s.values[key]
	return value, ok
}

// sortedKeys returns the keys in order. The caller holds the lock for reading.
func (s *state) sortedKeys() []string {
	s.sorting.Lock()
	defer s.sorting.Unlock()
	if s.sorted == nil {
		s.sorted = make([]string, 0, len(s.values))
		for key := range s.values {
			s.sorted = append(s.sorted, key)
		}
		sort.Strings(s.sorted)
	}
	return s.sorted
}

func (s *state) take(b *body) {
	if b.status != "" {
		s.status = Status(b.status)
	}
	if b.cursor != "" {
		s.cursor = b.cursor
	}
}

func (s *state) event(changes []Change) Event {
	return Event{Cursor: s.cursor, Status: s.status, Changes: changes, Count: len(s.values), Digest: s.digest}
}

func (s *state) set(changes []Change, key string, value []byte) []Change {
	name := []byte(key)
	old, ok := s.values[key]
	_, held := s.unsettled[key]
	delete(s.unsettled, key)
	if held && bytes.Equal(old, value) {
		return changes // The application has known it all the time.
	}
	s.digest = s.digest.Add(s.hash.entry(name, value))
	s.values[key] = value
	if !ok {
		s.sorted = nil
		return append(changes, Change{Type: New, Key: name, Value: value})
	}
	s.digest = s.digest.Sub(s.hash.entry(name, old))
	return append(changes, Change{Type: Updated, Key: name, Value: value, Old: old})
}

func (s *state) remove(changes []Change, key string) []Change {
	old, ok := s.values[key]
	if !ok {
		return changes
	}
	name := []byte(key)
	delete(s.unsettled, key)
	delete(s.values, key)
	s.sorted = nil
	s.digest = s.digest.Sub(s.hash.entry(name, old))
	return append(changes, Change{Type: Deleted, Key: name, Old: old})
}

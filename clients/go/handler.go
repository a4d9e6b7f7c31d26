package crumbd

import (
	"container/list"
	"context"
	"sync"
)

// Handler is called about the changes of a Mirror. Each of its functions may be nil. The slices are shared with the
// mirror: read them, do not write to them.
//
// Calls of one handler come one after the other, from a goroutine of its own. A handler that is slower than the changes
// is told the net change of each key since its last call: a key that was updated twice is told once, and one that came
// and went is not told. So it never holds up the mirror, and what waits for it is bounded by the number of keys.
// Changes of different keys may come in another order than they happened.
type Handler struct {
	OnAdd    func(key, value []byte)
	OnUpdate func(key, old, value []byte)
	OnDelete func(key, old []byte)
	// OnStatus is called when the daemon's status has changed, after the changes before it.
	OnStatus func(Status)
}

// AddEventHandler registers a handler. It is first told of all keys that the mirror has, as additions. It is called
// while Run runs.
func (m *Mirror) AddEventHandler(handler Handler) *Registration {
	r := &Registration{
		mirror:  m,
		handler: handler,
		pending: map[string]*list.Element{},
		wake:    make(chan struct{}, 1),
		removed: make(chan struct{}),
	}
	m.heard.Add(1) // Before the lock: a snapshot that is being compared then makes its changes after all.
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	present := Event{Status: m.state.status}
	for key, value := range m.state.values {
		present.Changes = append(present.Changes, Change{Type: New, Key: []byte(key), Value: value})
	}
	r.add(present)
	m.handlers[r] = struct{}{}
	if m.ctx != nil {
		m.start(r)
	}
	return r
}

// start is called under the state's lock.
func (m *Mirror) start(r *Registration) {
	select {
	case <-m.ended: // Nobody waits for another goroutine then.
	default:
		m.running.Add(1)
		go func() {
			defer m.running.Done()
			r.run(m.ctx)
		}()
	}
}

// Registration is a registered handler.
type Registration struct {
	mirror  *Mirror
	handler Handler
	wake    chan struct{}
	removed chan struct{}
	once    sync.Once

	mu sync.Mutex
	// pending has one element of queue for each key with something to tell.
	pending map[string]*list.Element
	queue   list.List
	// status is the last one that is known, and statusAt its element of queue while it is to be told.
	status   Status
	statusAt *list.Element
}

// netChange is what happened to a key since the handler was told of it.
type netChange struct {
	key []byte
	// old is what the handler knows, and value what is true now.
	old, value       []byte
	hasOld, hasValue bool
}

// Remove ends the calls of the handler. One that is being made goes on.
func (r *Registration) Remove() {
	r.once.Do(func() {
		close(r.removed)
		r.mirror.state.mu.Lock()
		delete(r.mirror.handlers, r)
		r.mirror.state.mu.Unlock()
		r.mirror.heard.Add(-1)
	})
}

// Pending returns the number of keys of which the handler is yet to be told.
func (r *Registration) Pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending)
}

// add takes an event over. It never waits for the handler.
func (r *Registration) add(event Event) {
	r.mu.Lock()
	for _, change := range event.Changes {
		r.merge(change)
	}
	if event.Status != r.status {
		r.status = event.Status
		if r.statusAt != nil {
			r.queue.Remove(r.statusAt)
		}
		r.statusAt = r.queue.PushBack(event.Status)
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Registration) merge(change Change) {
	waiting, ok := r.pending[string(change.Key)]
	if !ok {
		r.pending[string(change.Key)] = r.queue.PushBack(&netChange{
			key: change.Key,
			old: change.Old, hasOld: change.Type != New,
			value: change.Value, hasValue: change.Type != Deleted,
		})
		return
	}
	net := waiting.Value.(*netChange)
	net.value, net.hasValue = change.Value, change.Type != Deleted
	if !net.hasOld && !net.hasValue { // It came and went.
		r.queue.Remove(waiting)
		delete(r.pending, string(change.Key))
	}
}

func (r *Registration) run(ctx context.Context) {
	for {
		for r.tell() {
			if ctx.Err() != nil || r.isRemoved() {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.removed:
			return
		case <-r.wake:
		}
	}
}

func (r *Registration) isRemoved() bool {
	select {
	case <-r.removed:
		return true
	default:
		return false
	}
}

// tell makes the next call. It reports whether there was one.
func (r *Registration) tell() bool {
	r.mu.Lock()
	first := r.queue.Front()
	if first == nil {
		r.mu.Unlock()
		return false
	}
	r.queue.Remove(first)
	net, isChange := first.Value.(*netChange)
	if isChange {
		delete(r.pending, string(net.key))
	} else {
		r.statusAt = nil
	}
	r.mu.Unlock()

	h := r.handler
	switch {
	case !isChange:
		if h.OnStatus != nil {
			h.OnStatus(first.Value.(Status))
		}
	case !net.hasOld:
		if h.OnAdd != nil {
			h.OnAdd(net.key, net.value)
		}
	case net.hasValue:
		if h.OnUpdate != nil {
			h.OnUpdate(net.key, net.old, net.value)
		}
	default:
		if h.OnDelete != nil {
			h.OnDelete(net.key, net.old)
		}
	}
	return true
}

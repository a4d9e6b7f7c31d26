package crumbd_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	crumbd "github.com/crumbd/crumbd/clients/go"
)

// runMirror runs a mirror until the end of the test.
func runMirror(t *testing.T, m *crumbd.Mirror) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func synced(t *testing.T, m *crumbd.Mirror) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := m.WaitForSync(ctx); err != nil {
		t.Fatal(err)
	}
}

// released answers once the channel is closed.
func released(release <-chan struct{}, then step) step {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			then(w, r)
		case <-r.Context().Done():
		}
	}
}

// log collects what a handler is told.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *log) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, " ")
}

func (l *log) handler() crumbd.Handler {
	return crumbd.Handler{
		OnAdd:    func(key, value []byte) { l.add("+%s=%s", key, value) },
		OnUpdate: func(key, old, value []byte) { l.add("~%s=%s>%s", key, old, value) },
		OnDelete: func(key, old []byte) { l.add("-%s=%s", key, old) },
		OnStatus: func(status crumbd.Status) { l.add("%s", status) },
	}
}

func TestAMirrorHoldsTheStateInKeyOrder(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	w := world{"b/2": "2", "a": "0", "b/1": "1", "c": "3", "b": "x"}
	after := world{"b/2": "2", "a": "0", "b/3": "9", "c": "4", "b": "x"}
	d := newDaemon(t,
		answer("c1", snapshot("c1", crumbd.ResyncInProgress, w)),
		released(release, answer("c2", updates("c2", crumbd.InSync, after, deleted("b/1"), put("new", "b/3", "9"), put("updated", "c", "4")))))
	m := crumbd.NewMirror(crumbd.Options{Endpoints: []string{d.URL}})
	if m.HasSynced() || m.Len() != 0 || m.Status() != "" || len(m.List(nil)) != 0 {
		t.Error("a mirror that has not run holds something")
	}
	runMirror(t, m)
	eventually(t, "the first state", func() bool { return m.Len() == 5 })
	if m.HasSynced() || m.Digest() != w.digest() || m.Cursor() != "c1" {
		t.Errorf("synced %v, digest %s, cursor %s", m.HasSynced(), m.Digest(), m.Cursor())
	}
	list := func(prefix string) (out string) {
		for _, entry := range m.List([]byte(prefix)) {
			out += fmt.Sprintf("%s=%s ", entry.Key, entry.Value)
		}
		return out
	}
	if got := list("b/"); got != "b/1=1 b/2=2 " {
		t.Errorf("listed %s", got)
	}
	close(release)
	synced(t, m)
	if got := list(""); got != "a=0 b=x b/2=2 b/3=9 c=4 " {
		t.Errorf("listed %s", got)
	}
	if value, ok := m.Get([]byte("c")); !ok || string(value) != "4" {
		t.Errorf("c is %q %v", value, ok)
	}
	if value, ok := m.Get([]byte("b/1")); ok {
		t.Errorf("b/1 is %q", value)
	}
	if m.Digest() != after.digest() || !m.HasSynced() || m.Status() != crumbd.InSync {
		t.Errorf("digest %s, status %s", m.Digest(), m.Status())
	}
}

func TestHandlersAreToldEachChange(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	d := newDaemon(t,
		answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"})),
		released(release, answer("c2", updates("c2", crumbd.InSync, world{"a": "2", "b": "1"}, put("updated", "a", "2"), put("new", "b", "1")))),
		answer("c3", updates("c3", crumbd.InSync, world{"b": "1"}, deleted("a"))))
	m := crumbd.NewMirror(crumbd.Options{Endpoints: []string{d.URL}})
	var early, late, removed log
	m.AddEventHandler(early.handler())
	runMirror(t, m)
	synced(t, m)
	m.AddEventHandler(late.handler())
	gone := m.AddEventHandler(removed.handler())
	for name, l := range map[string]*log{"early": &early, "late": &late, "removed": &removed} {
		l := l
		eventually(t, name+" is told the state", func() bool { return l.all() == "+a=1 in-sync" })
	}
	gone.Remove()
	gone.Remove()
	close(release)
	for name, l := range map[string]*log{"early": &early, "late": &late} {
		l := l
		eventually(t, name+" is told the deletion", func() bool { return strings.Contains(l.all(), "-a=") })
		eventually(t, name+" is told the rest", func() bool { return strings.Contains(l.all(), "+b=1") })
	}
	if got := removed.all(); got != "+a=1 in-sync" {
		t.Errorf("the handler that was removed was told %s", got)
	}
}

func TestASlowHandlerIsToldNetChanges(t *testing.T) {
	t.Parallel()
	const rounds = 200
	steps := []step{answer("c0", snapshot("c0", crumbd.InSync, world{"blocks": "1", "stays": "0", "goes": "1", "back": "1"}))}
	at := func(round int, records ...string) step {
		w := world{"blocks": "1", "stays": fmt.Sprint(round), "back": "1"}
		if round < rounds {
			w["goes"] = "1"
			w["back"] = fmt.Sprint("other", round)
		}
		if round%2 == 1 {
			w["brief"] = "1"
			records = append(records, put("new", "brief", "1"))
		} else {
			records = append(records, deleted("brief"))
		}
		if round == rounds {
			records = append(records, deleted("goes"))
		}
		records = append(records, put("updated", "stays", w["stays"]), put("updated", "back", w["back"]))
		cursor := fmt.Sprint("c", round)
		return answer(cursor, updates(cursor, crumbd.InSync, w, records...))
	}
	for round := 1; round <= rounds; round++ {
		steps = append(steps, at(round))
	}
	told := make(chan struct{})
	steps[1] = released(told, steps[1])
	d := newDaemon(t, steps...)
	m := crumbd.NewMirror(crumbd.Options{Endpoints: []string{d.URL}})
	var l log
	free := make(chan struct{})
	handler := l.handler()
	var once sync.Once
	handler.OnStatus = func(crumbd.Status) { // The last call about the first state.
		once.Do(func() {
			close(told)
			<-free
		})
	}
	slow := m.AddEventHandler(handler)
	runMirror(t, m)
	eventually(t, "the mirror is not held up", func() bool { return m.Cursor() == fmt.Sprint("c", rounds) })
	if n := slow.Pending(); n != 3 {
		t.Errorf("%d keys wait for the handler, want 3", n)
	}
	before := len(l.all())
	close(free)
	eventually(t, "the handler is told all", func() bool { return slow.Pending() == 0 && strings.Contains(l.all(), "-goes") })
	eventually(t, "the update is told", func() bool { return strings.Contains(l.all()[before:], fmt.Sprintf("~stays=0>%d", rounds)) })
	if got := l.all()[before:]; strings.Contains(got, "brief") || strings.Count(got, "stays") != 1 {
		t.Errorf("told %s", got)
	}
}

func TestAMirrorSaysWhyItEnded(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, refused(401, "unknown-token", "the token is not known"))
	m := crumbd.NewMirror(crumbd.Options{Endpoints: []string{d.URL}})
	err := m.Run(context.Background())
	var status *crumbd.StatusError
	if !errors.As(err, &status) || status.Code != 401 {
		t.Errorf("ended with %v", err)
	}
	if waited := m.WaitForSync(context.Background()); waited != err {
		t.Errorf("WaitForSync said %v", waited)
	}
	if again := m.Run(context.Background()); again == nil {
		t.Error("a mirror ran twice")
	}
	m.AddEventHandler(crumbd.Handler{OnAdd: func(_, _ []byte) { t.Error("called after the end") }})
}

func TestTypedValuesAreDecoded(t *testing.T) {
	t.Parallel()
	type route struct{ Port int }
	release := make(chan struct{})
	d := newDaemon(t,
		answer("c1", snapshot("c1", crumbd.InSync, world{"r/a": `{"port":1}`, "x": `oops`})),
		released(release, answer("c2", updates("c2", crumbd.InSync, world{"r/a": `{"port":2}`, "x": `{"port":3}`},
			put("updated", "r/a", `{"port":2}`), put("updated", "x", `{"port":3}`)))),
		answer("c3", updates("c3", crumbd.InSync, world{"x": `{"port":3}`}, deleted("r/a"))))
	m := crumbd.NewMirror(crumbd.Options{Endpoints: []string{d.URL}})
	routes := crumbd.NewTyped[route](m, nil)
	var l log
	routes.AddEventHandler(crumbd.TypedHandler[route]{
		OnAdd:    func(key []byte, value route) { l.add("+%s=%d", key, value.Port) },
		OnUpdate: func(key []byte, old, value route) { l.add("~%s=%d>%d", key, old.Port, value.Port) },
		OnDelete: func(key []byte, old route) { l.add("-%s=%d", key, old.Port) },
		OnStatus: func(crumbd.Status) { l.add("status") },
		OnError:  func(key, value []byte, err error) { l.add("!%s", key) },
	})
	runMirror(t, m)
	synced(t, m)
	eventually(t, "the first state is told", func() bool { return strings.HasSuffix(l.all(), "status") })
	if got := l.all(); !strings.Contains(got, "+r/a=1") || !strings.Contains(got, "!x") {
		t.Errorf("told %s", got)
	}
	if value, ok, err := routes.Get([]byte("r/a")); !ok || err != nil || value.Port != 1 {
		t.Errorf("r/a is %v %v %v", value, ok, err)
	}
	if _, ok, err := routes.Get([]byte("none")); ok || err != nil {
		t.Errorf("none is %v %v", ok, err)
	}
	if list, err := routes.List([]byte("r/")); err != nil || len(list) != 1 || list[0].Value.Port != 1 {
		t.Errorf("listed %v %v", list, err)
	}
	if _, err := routes.List(nil); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("listed a value that is no JSON: %v", err)
	}
	close(release)
	eventually(t, "the deletion is told", func() bool { return strings.Contains(l.all(), "-r/a=") })
	eventually(t, "a value that can be read now is new", func() bool { return strings.Contains(l.all(), "+x=3") })
}

func TestATypedHandlerIsToldTheEndOfWhatItKnows(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	at := func(cursor, a, b string) step {
		return func(w http.ResponseWriter, r *http.Request) {
			after, records := world{}, []string{}
			for key, value := range map[string]string{"a": a, "b": b} {
				if value == "" {
					records = append(records, deleted(key))
					continue
				}
				after[key] = value
				records = append(records, put("updated", key, value))
			}
			released(next, answer(cursor, updates(cursor, crumbd.InSync, after, records...)))(w, r)
		}
	}
	d := newDaemon(t, answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1", "b": "?"})),
		at("c2", "bad", "bad"), at("c3", "worse", ""), at("c4", "", "5"), at("c5", "6", "!"), at("c6", "!!", "7"))
	m := crumbd.NewMirror(crumbd.Options{Endpoints: []string{d.URL}})
	var a, b log
	of := func(key []byte) *log {
		if string(key) == "a" {
			return &a
		}
		return &b
	}
	crumbd.NewTyped[int](m, nil).AddEventHandler(crumbd.TypedHandler[int]{
		OnAdd:    func(key []byte, value int) { of(key).add("+%d", value) },
		OnUpdate: func(key []byte, old, value int) { of(key).add("~%d>%d", old, value) },
		OnDelete: func(key []byte, old int) { of(key).add("-%d", old) },
		OnError:  func(key, value []byte, _ error) { of(key).add("!%s", value) },
	})
	runMirror(t, m)
	for i, want := range [][2]string{
		{"+1", "!?"},
		{"+1 !bad", "!? !bad"},
		{"+1 !bad !worse", "!? !bad"},
		{"+1 !bad !worse -1", "!? !bad +5"},
		{"+1 !bad !worse -1 +6", "!? !bad +5 !!"},
		{"+1 !bad !worse -1 +6 !!!", "!? !bad +5 !! ~5>7"},
	} {
		eventually(t, fmt.Sprint("told ", want), func() bool { return a.all() == want[0] && b.all() == want[1] })
		if i == 5 {
			break
		}
		select {
		case next <- struct{}{}:
		case <-time.After(limit):
			t.Fatal("the next request did not come")
		}
	}
}

func TestAMirrorThatHasSyncedIsWaitedForNoMore(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, answer("c1", snapshot("c1", crumbd.InSync, world{})), refused(401, "unknown-token", "no"))
	m := crumbd.NewMirror(crumbd.Options{Endpoints: []string{d.URL}})
	if err := m.Run(context.Background()); err == nil {
		t.Fatal("it did not end")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for i := 0; i < 100; i++ {
		if err := m.WaitForSync(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

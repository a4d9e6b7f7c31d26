package crumbd_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	crumbd "github.com/crumbd/crumbd/clients/go"
)

// limit is how long a test waits for anything.
const limit = 20 * time.Second

// world is the state of a scripted daemon.
type world map[string]string

func (w world) proof() string { return fmt.Sprintf(`"count":%d,"digest":"%s"`, len(w), w.digest()) }

func (w world) digest() crumbd.Digest {
	var sum crumbd.Digest
	for key, value := range w {
		sum = sum.Add(crumbd.EntryDigest([]byte(key), []byte(value)))
	}
	return sum
}

// under is the part whose keys begin with one of the prefixes.
func (w world) under(prefixes ...string) world {
	part := world{}
	for key, value := range w {
		for _, prefix := range prefixes {
			if strings.HasPrefix(key, prefix) {
				part[key] = value
			}
		}
	}
	return part
}

func (w world) sorted() []string {
	var keys []string
	for key := range w {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// put is a record as a daemon writes it with values=string.
func put(kind, key, value string) string {
	name := fmt.Sprintf(`"key":%s`, quote(key))
	if !utf8.ValidString(key) {
		name = fmt.Sprintf(`"key_base64":"%s"`, base64.StdEncoding.EncodeToString([]byte(key)))
	}
	if !utf8.ValidString(value) {
		text := base64.StdEncoding.EncodeToString([]byte(value))
		return fmt.Sprintf(`{"type":"%s",%s,"value":"%s","encoding":"base64","revision":1}`, kind, name, text)
	}
	return fmt.Sprintf(`{"type":"%s",%s,"value":%s,"encoding":"utf8","revision":1}`, kind, name, quote(value))
}

func deleted(key string) string { return fmt.Sprintf(`{"type":"deleted","key":%s}`, quote(key)) }

func quote(text string) string {
	out := strings.Builder{}
	out.WriteByte('"')
	for _, char := range text {
		switch {
		case char == '"' || char == '\\':
			out.WriteByte('\\')
			out.WriteRune(char)
		case char < 0x20:
			fmt.Fprintf(&out, `\u%04x`, char)
		default:
			out.WriteRune(char)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// snapshot is the NDJSON body of a whole state.
func snapshot(cursor string, status crumbd.Status, w world) string {
	lines := []string{fmt.Sprintf(`{"type":"snapshot","mode":"snapshot","cursor":"%s","status":"%s",%s}`, cursor, status, w.proof())}
	for _, key := range w.sorted() {
		lines = append(lines, put("new", key, w[key]))
	}
	lines = append(lines, fmt.Sprintf(`{"type":"end","cursor":"%s",%s}`, cursor, w.proof()))
	return strings.Join(lines, "\n") + "\n"
}

// updates is the NDJSON body of changes that lead to a state.
func updates(cursor string, status crumbd.Status, after world, records ...string) string {
	lines := []string{fmt.Sprintf(`{"type":"breadcrumb","mode":"delta","cursor":"%s","status":"%s",%s}`, cursor, status, after.proof())}
	lines = append(lines, records...)
	lines = append(lines, fmt.Sprintf(`{"type":"end","cursor":"%s",%s}`, cursor, after.proof()))
	return strings.Join(lines, "\n") + "\n"
}

// step answers one request.
type step func(w http.ResponseWriter, r *http.Request)

func linked(w http.ResponseWriter, cursor string) {
	w.Header().Set("Crumbd-Cursor", cursor)
	w.Header().Set("Link", fmt.Sprintf(`</v1/breadcrumbs/%s/next>; rel="next"`, cursor))
}

// answer is a 200 with a body.
func answer(cursor, body string) step {
	return func(w http.ResponseWriter, _ *http.Request) {
		linked(w, cursor)
		ndjson(w, body)
	}
}

func ndjson(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/x-ndjson; values=string")
	fmt.Fprint(w, body)
}

// moved is a 204.
func moved(cursor string) step {
	return func(w http.ResponseWriter, _ *http.Request) {
		linked(w, cursor)
		w.Header().Set("Crumbd-Status", string(crumbd.InSync))
		w.WriteHeader(http.StatusNoContent)
	}
}

func refused(code int, kind, detail string, headers ...string) step {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"type":"urn:crumbd:problem:%s","title":"No","status":%d,"detail":%s}`, kind, code, quote(detail))
	}
}

// parts is a stream: each part is sent at once, and the last one is followed by silence.
func parts(bodies ...string) step {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson; values=string")
		w.WriteHeader(http.StatusOK)
		for _, body := range bodies {
			fmt.Fprint(w, body)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	}
}

// ended is a stream that ends after its body.
func ended(body string) step {
	return func(w http.ResponseWriter, _ *http.Request) { ndjson(w, body) }
}

// cut breaks the connection after a part of a body.
func cut(cursor, part string) step {
	return func(w http.ResponseWriter, _ *http.Request) {
		linked(w, cursor)
		ndjson(w, part)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// daemon plays a script: each request takes the next step. After the last one it stays silent.
type daemon struct {
	*httptest.Server
	mu    sync.Mutex
	steps []step
	asked []string
	times []time.Time
	heads []http.Header
}

func newDaemon(t *testing.T, steps ...step) *daemon {
	t.Helper()
	d := &daemon{steps: steps}
	d.Server = httptest.NewServer(d)
	t.Cleanup(func() {
		d.CloseClientConnections()
		d.Close()
	})
	return d
}

func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.asked = append(d.asked, r.RequestURI)
	d.times = append(d.times, time.Now())
	d.heads = append(d.heads, r.Header)
	var next step
	if len(d.steps) > 0 {
		next, d.steps = d.steps[0], d.steps[1:]
	}
	d.mu.Unlock()
	if next == nil {
		<-r.Context().Done()
		return
	}
	next(w, r)
}

func (d *daemon) requests() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{}, d.asked...)
}

func (d *daemon) at(i int) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.times[i]
}

func (d *daemon) header(i int) http.Header {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.heads[i]
}

// client follows a daemon in a test, and checks each event against what it was told before.
type client struct {
	t        *testing.T
	follower *crumbd.Follower
	known    world
	onEmpty  func() // Called when an empty state was not taken over.
	mu       sync.Mutex
	failures []error
}

func newClient(t *testing.T, opts crumbd.Options) *client {
	t.Helper()
	c := &client{t: t, known: world{}}
	opts.OnRetry = func(err error, _ time.Duration) {
		c.mu.Lock()
		c.failures = append(c.failures, err)
		c.mu.Unlock()
		var empty *crumbd.EmptyStateError
		if errors.As(err, &empty) && c.onEmpty != nil {
			c.onEmpty()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	c.follower = crumbd.Follow(ctx, opts)
	t.Cleanup(c.follower.Close)
	return c
}

func follow(t *testing.T, d *daemon) *client {
	t.Helper()
	return newClient(t, crumbd.Options{Endpoints: []string{d.URL}})
}

func stream(t *testing.T, d *daemon) *client {
	t.Helper()
	return newClient(t, crumbd.Options{Endpoints: []string{d.URL}, Transport: crumbd.Stream})
}

// next returns the next event. Its types and old values must fit what is known, and its proof the state after it.
func (c *client) next() crumbd.Event {
	c.t.Helper()
	event, err := c.follower.Next()
	if err != nil {
		c.t.Fatalf("the follower ended: %v (failures: %v)", err, c.retried())
	}
	for _, change := range event.Changes {
		key := string(change.Key)
		old, known := c.known[key]
		if known != (change.Type != crumbd.New) || known && old != string(change.Old) {
			c.t.Errorf("%v of %q with old value %q, known before: %v %q", change.Type, key, change.Old, known, old)
		}
		if change.Type == crumbd.Deleted {
			delete(c.known, key)
		} else {
			c.known[key] = string(change.Value)
		}
	}
	if event.Count != len(c.known) || event.Digest != c.known.digest() {
		c.t.Errorf("the event names %d keys and %s, known are %d and %s", event.Count, event.Digest, len(c.known), c.known.digest())
	}
	return event
}

// expect reads an event and compares its cursor and the changes: "+key=value", "~key=value" or "-key".
func (c *client) expect(cursor string, changes ...string) crumbd.Event {
	c.t.Helper()
	event := c.next()
	got := []string{}
	for _, change := range event.Changes {
		switch change.Type {
		case crumbd.New:
			got = append(got, fmt.Sprintf("+%s=%s", change.Key, change.Value))
		case crumbd.Updated:
			got = append(got, fmt.Sprintf("~%s=%s", change.Key, change.Value))
		default:
			got = append(got, fmt.Sprintf("-%s", change.Key))
		}
	}
	sort.Strings(got)
	sort.Strings(changes)
	if event.Cursor != cursor || !reflect.DeepEqual(got, append([]string{}, changes...)) {
		c.t.Errorf("told %q at %q, want %q at %q", got, event.Cursor, changes, cursor)
	}
	return event
}

func (c *client) retried() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]error{}, c.failures...)
}

// failedWith demands exactly these failures.
func (c *client) failedWith(want ...error) {
	c.t.Helper()
	got := c.retried()
	if len(got) != len(want) {
		c.t.Fatalf("failures %v, want %v", got, want)
	}
	for i := range want {
		if !errors.Is(got[i], want[i]) {
			c.t.Errorf("failure %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func askedFor(t *testing.T, d *daemon, want ...string) {
	t.Helper()
	if got := d.requests(); !reflect.DeepEqual(got, want) {
		t.Errorf("asked for\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

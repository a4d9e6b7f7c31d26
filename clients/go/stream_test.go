package crumbd_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	crumbd "github.com/crumbd/crumbd/clients/go"
)

func TestAStreamTellsTheStateAndThenChanges(t *testing.T) {
	t.Parallel()
	none := `{"type":"breadcrumb","mode":"none","reason":"timeout","cursor":"c3"}` + "\n" + `{"type":"end","cursor":"c3"}` + "\n"
	d := newDaemon(t, parts(
		snapshot("c1", crumbd.InSync, world{"a": "1"}), "\n", "\r\n",
		updates("c2", crumbd.InSync, world{"a": "2"}, put("updated", "a", "2")), "\n", none,
		updates("c4", crumbd.InSync, world{}, deleted("a"))))
	c := stream(t, d)
	c.expect("c1", "+a=1")
	c.expect("c2", "~a=2")
	c.expect("c4", "-a")
	askedFor(t, d, "/v1/stream")
	c.failedWith()
}

// Rules whole and resume.
func TestAStreamThatBreaksGoesOnFromTheLastWholeBody(t *testing.T) {
	t.Parallel()
	second := updates("c2", crumbd.InSync, world{"a": "2"}, put("updated", "a", "2"))
	third := updates("c3", crumbd.InSync, world{"a": "3"}, put("updated", "a", "3"))
	d := newDaemon(t,
		cut("", snapshot("c1", crumbd.InSync, world{"a": "1"})+second[:len(second)-1]),
		ended(second),
		refused(503, "starting", "not yet"),
		parts(third))
	c := stream(t, d)
	c.expect("c1", "+a=1")
	c.expect("c2", "~a=2")
	c.expect("c3", "~a=3")
	askedFor(t, d, "/v1/stream", "/v1/stream?from=c1", "/v1/stream?from=c2", "/v1/stream?from=c2")
	if failures := c.retried(); len(failures) != 3 || !errors.Is(failures[0], crumbd.ErrCutOff) || !errors.Is(failures[1], crumbd.ErrStreamEnded) {
		t.Errorf("failures %v", failures)
	}
}

// Rules proof and prefix.
func TestAStreamWithAMismatchReadsTheStateAgain(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		parts(snapshot("c1", crumbd.InSync, world{"p1": "1"}), updates("c2", crumbd.InSync, world{"p1": "x"}, put("updated", "p1", "2"))),
		answer("c3", snapshot("c3", crumbd.InSync, world{"p1": "3"})),
		parts(updates("c4", crumbd.InSync, world{}, deleted("p1"))))
	c := newClient(t, crumbd.Options{Endpoints: []string{d.URL}, Transport: crumbd.Stream, Prefix: []byte("p")})
	c.expect("c1", "+p1=1")
	if event := c.expect("c3", "~p1=3"); event.Gap != crumbd.Mismatch {
		t.Errorf("%+v", event)
	}
	c.expect("c4", "-p1")
	askedFor(t, d, "/v1/stream?prefix=p", current+"?prefix=p", "/v1/stream?from=c3&prefix=p")
}

// Rules gone and settle.
func TestAResetInAStreamTellsTheDifference(t *testing.T) {
	t.Parallel()
	reset := `{"type":"reset","reason":"cursor-gone"}` + "\n"
	d := newDaemon(t, parts(
		snapshot("c1", crumbd.InSync, world{"a": "1", "b": "2"}), reset,
		snapshot("n1", crumbd.ResyncInProgress, world{"a": "3"}),
		updates("n2", crumbd.InSync, world{"a": "3"})))
	c := stream(t, d)
	c.next()
	if event := c.expect("n1", "~a=3"); event.Gap != crumbd.CursorGone {
		t.Errorf("%+v", event)
	}
	c.expect("n2", "-b")
	askedFor(t, d, "/v1/stream")
}

func TestAResetThatIsCutOffReadsTheWholeState(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		parts(snapshot("c1", crumbd.InSync, world{"a": "1"})),
		answer("n1", snapshot("n1", crumbd.InSync, world{"a": "2"})),
		parts())
	d.steps[0] = cut("", snapshot("c1", crumbd.InSync, world{"a": "1"})+`{"type":"reset","reason":"cursor-gone"}`+"\n"+snapshot("n1", crumbd.InSync, world{"a": "2"})[:80])
	c := stream(t, d)
	c.next()
	c.expect("n1", "~a=2")
	askedFor(t, d, "/v1/stream", current)
}

// Rule empty.
func TestAStreamDoesNotTakeOverAnEmptyState(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		parts(snapshot("c1", crumbd.InSync, world{"a": "1"}), `{"type":"reset","reason":"cursor-gone"}`+"\n", snapshot("n1", crumbd.InSync, world{})),
		answer("n1", snapshot("n1", crumbd.InSync, world{})),
		answer("n2", snapshot("n2", crumbd.InSync, world{"a": "2"})),
		parts(updates("n3", crumbd.InSync, world{}, deleted("a"))))
	c := stream(t, d)
	c.next()
	c.expect("n2", "~a=2")
	c.expect("n3", "-a")
	askedFor(t, d, "/v1/stream", current, current, "/v1/stream?from=n2")
	var held *crumbd.EmptyStateError
	if failures := c.retried(); len(failures) != 2 || !errors.As(failures[0], &held) || held.Held != 1 {
		t.Errorf("failures %v", failures)
	}
}

func TestAStreamWhoseRightsAreNarrowedMayBeEmpty(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		ended(snapshot("c1", crumbd.InSync, world{"a": "1"})+`{"type":"reset","reason":"permission-changed"}`+"\n"),
		answer("c2", snapshot("c2", crumbd.ResyncInProgress, world{})),
		parts(updates("c3", crumbd.InSync, world{})))
	c := stream(t, d)
	c.next()
	c.expect("c2")
	c.expect("c3", "-a")
	askedFor(t, d, "/v1/stream", current, "/v1/stream?from=c2")
}

// Rule silence.
func TestASilentStreamIsOpenedAgain(t *testing.T) {
	t.Parallel()
	beats := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		for i := 0; i < 8; i++ { // Longer than the limit in all.
			fmt.Fprint(w, "\n")
			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
		}
		fmt.Fprint(w, updates("c2", crumbd.InSync, world{}, deleted("a")))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	d := newDaemon(t, parts(snapshot("c1", crumbd.InSync, world{"a": "1"})), beats)
	c := newClient(t, crumbd.Options{Endpoints: []string{d.URL}, Transport: crumbd.Stream, Timeout: 500 * time.Millisecond})
	c.next()
	c.expect("c2", "-a")
	askedFor(t, d, "/v1/stream", "/v1/stream?from=c1")
	c.failedWith(crumbd.ErrSilent)
}

// A chunk that comes slowly is not silence, although net/http gives out only whole ones.
func TestASlowChunkIsNotGivenUp(t *testing.T) {
	t.Parallel()
	slow := func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer connection.Close()
		body := snapshot("c1", crumbd.InSync, world{"a": "1"})
		fmt.Fprintf(connection, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", len(body))
		for i := 0; i < 10; i++ {
			fmt.Fprint(connection, body[len(body)*i/10:len(body)*(i+1)/10])
			time.Sleep(100 * time.Millisecond)
		}
		fmt.Fprint(connection, "\r\n")
		time.Sleep(100 * time.Millisecond)
	}
	d := newDaemon(t, slow)
	c := newClient(t, crumbd.Options{Endpoints: []string{d.URL}, Transport: crumbd.Stream, Timeout: 500 * time.Millisecond})
	c.expect("c1", "+a=1")
	c.failedWith()
}

// Rule fatal.
func TestAStreamWhoseRightsChangeAsksAgain(t *testing.T) {
	t.Parallel()
	withRights := func(rights, body string) step {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Crumbd-Rights", rights)
			ndjson(w, body)
		}
	}
	reset := `{"type":"reset","reason":"permission-changed"}` + "\n"
	d := newDaemon(t,
		withRights("r1", snapshot("c1", crumbd.InSync, world{"a": "1"})),
		withRights("r1", reset),
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `</v1/breadcrumbs/c2/next?rights=r2>; rel="next"`)
			ndjson(w, snapshot("c2", crumbd.InSync, world{"b": "2"}))
		},
		refused(401, "token-removed", "the token is not known"))
	c := stream(t, d)
	c.next()
	if event := c.expect("c2", "-a", "+b=2"); event.Gap != crumbd.RightsChanged {
		t.Errorf("%+v", event)
	}
	if _, err := c.follower.Next(); err == nil || !strings.Contains(err.Error(), "the token is not known") {
		t.Errorf("ended with %v", err)
	}
	askedFor(t, d, "/v1/stream", "/v1/stream?from=c1~r1", current, "/v1/stream?from=c2~r2")
	if failures := c.retried(); len(failures) < 2 || !strings.HasSuffix(failures[1].Error(), "/v1/stream: the daemon ended the stream after a reset: permission-changed") {
		t.Errorf("failures %v", failures)
	}
}

package crumbd_test

import (
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	golog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	crumbd "github.com/crumbd/crumbd/clients/go"
)

const current = "/v1/breadcrumbs/current"

func TestAPollFollowsTheLinkOfEachAnswer(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1", "b": "2"})),
		moved("c2"),
		answer("c3", updates("c3", crumbd.InSync, world{"a": "9", "c": "3"}, put("updated", "a", "9"), deleted("b"), put("new", "c", "3"))))
	c := follow(t, d)
	first := c.expect("c1", "+a=1", "+b=2")
	if !first.Snapshot || first.Resync() || first.Status != crumbd.InSync {
		t.Errorf("%+v", first)
	}
	if second := c.expect("c3", "~a=9", "-b", "+c=3"); second.Snapshot {
		t.Errorf("%+v", second)
	}
	askedFor(t, d, current, "/v1/breadcrumbs/c1/next", "/v1/breadcrumbs/c2/next")
	c.failedWith()
}

func TestAChangeOfStatusAloneIsTold(t *testing.T) {
	t.Parallel()
	w := world{"a": "1"}
	d := newDaemon(t, answer("c1", snapshot("c1", crumbd.InSync, w)), answer("c2", updates("c2", crumbd.ResyncInProgress, w)))
	c := follow(t, d)
	c.next()
	if event := c.expect("c2"); event.Status != crumbd.ResyncInProgress {
		t.Errorf("%+v", event)
	}
}

// Rule whole.
func TestAnAnswerThatIsCutOffCountsForNothing(t *testing.T) {
	t.Parallel()
	before, after := world{"a": "1"}, world{"a": "2"}
	whole := updates("c2", crumbd.InSync, after, put("updated", "a", "2"))
	withoutEnd := whole[:strings.LastIndex(whole, `{"type":"end"`)]
	short := func(w http.ResponseWriter, _ *http.Request) {
		linked(w, "c2")
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)+10))
		ndjson(w, whole)
	}
	d := newDaemon(t,
		cut("c1", snapshot("c1", crumbd.InSync, before)[:120]),
		answer("c1", snapshot("c1", crumbd.InSync, before)),
		answer("c2", withoutEnd),
		short,
		cut("c2", whole), // The chunked end is missing.
		answer("c2", whole))
	c := follow(t, d)
	c.expect("c1", "+a=1")
	c.expect("c2", "~a=2")
	next := "/v1/breadcrumbs/c1/next"
	askedFor(t, d, current, current, next, next, next, next)
	c.failedWith(crumbd.ErrCutOff, crumbd.ErrCutOff, crumbd.ErrCutOff, crumbd.ErrCutOff)
}

// Rule proof.
func TestUpdatesThatDoNotLeadToTheDigestAreNotShown(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1", "b": "2"})),
		answer("c2", updates("c2", crumbd.InSync, world{"a": "wrong"}, put("updated", "a", "3"), deleted("b"))),
		answer("c3", strings.Replace(snapshot("c3", crumbd.InSync, world{"a": "4"}), `"count":1`, `"count":2`, 1)),
		answer("c3", snapshot("c3", crumbd.InSync, world{"a": "4", "c": "5"})))
	c := follow(t, d)
	c.next()
	event := c.expect("c3", "~a=4", "-b", "+c=5")
	if event.Gap != crumbd.Mismatch || !event.Resync() {
		t.Errorf("%+v", event)
	}
	askedFor(t, d, current, "/v1/breadcrumbs/c1/next", current, current)
	c.failedWith(crumbd.ErrMismatch, crumbd.ErrMismatch)
}

// Rules resume and link.
func TestAnotherReplicaContinuesFromTheLastCursor(t *testing.T) {
	t.Parallel()
	first := newDaemon(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", `</other>; rel="prev", <../../v1/breadcrumbs/c1/next?prefix=a%2C&rights=r1>; title="a, b"; rel=next`)
		w.Header().Set("Crumbd-Cursor", "c1")
		ndjson(w, strings.ReplaceAll(snapshot("c1", crumbd.InSync, world{"a": "1"}), `"count"`, `"ignored"`))
	}, refused(500, "broken", "it is broken"))
	second := newDaemon(t, answer("c2", updates("c2", crumbd.InSync, world{"a": "2"}, put("updated", "a", "2"))))
	c := newClient(t, crumbd.Options{Endpoints: []string{first.URL + "/base/", second.URL}, Prefix: []byte("a,"), Token: "secret", Name: "test/1"})
	c.next()
	c.expect("c2", "~a=2")
	asked := first.requests()
	if len(asked) != 2 || asked[0] != "/base/v1/breadcrumbs/current?prefix=a%2C" {
		t.Fatalf("asked the first replica for %q", asked)
	}
	if asked[1] != "/base/v1/breadcrumbs/c1/next?prefix=a%2C&rights=r1" {
		t.Errorf("the link became %q", asked[1])
	}
	askedFor(t, second, asked[1])
	if got := second.header(0); got.Get("Authorization") != "Bearer secret" || got.Get("Crumbd-Client") != "test/1" {
		t.Errorf("headers %v", got)
	}
}

// Rule move.
func TestAnAnswerWithoutItsLinkCountsForNothing(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		ended(snapshot("c0", crumbd.InSync, world{"x": "x"})),
		answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"})),
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		moved("c2"),
		answer("c3", updates("c3", crumbd.InSync, world{}, deleted("a"))))
	c := follow(t, d)
	c.expect("c1", "+a=1")
	c.expect("c3", "-a")
	askedFor(t, d, current, current, "/v1/breadcrumbs/c1/next", "/v1/breadcrumbs/c1/next", "/v1/breadcrumbs/c2/next")
	if len(c.retried()) != 2 {
		t.Errorf("failures %v", c.retried())
	}
}

// Rules gone and lower.
func TestAfterAGapTheDifferenceIsTold(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		answer("h1.900", snapshot("h1.900", crumbd.InSync, world{"a": "1", "b": "2", "c": "3"})),
		refused(410, "gone", "the cursor is gone"),
		refused(503, "starting", "not yet"),
		answer("h2.3", snapshot("h2.3", crumbd.InSync, world{"b": "2", "c": "4", "d": "5"})),
		answer("h2.4", updates("h2.4", crumbd.InSync, world{"b": "2", "c": "4"}, deleted("d"))))
	c := follow(t, d)
	c.next()
	event := c.expect("h2.3", "-a", "~c=4", "+d=5")
	if event.Gap != crumbd.CursorGone || !event.Snapshot {
		t.Errorf("%+v", event)
	}
	c.expect("h2.4", "-d")
	if failures := c.retried(); len(failures) != 2 || !errors.Is(failures[0], crumbd.ErrGone) {
		t.Errorf("failures %v", failures)
	}
}

// Rule settle.
func TestDeletionsAfterAGapWaitUntilTheDaemonIsInSync(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1", "b": "2", "c": "3", "d": "4"})),
		refused(410, "gone", "the cursor is gone"),
		answer("c2", snapshot("c2", crumbd.ResyncInProgress, world{"a": "9"})),
		answer("c3", updates("c3", crumbd.ResyncInProgress, world{"a": "9", "b": "2", "c": "8"}, put("new", "b", "2"), put("new", "c", "8"))),
		answer("c4", updates("c4", crumbd.ResyncInProgress, world{"b": "2", "c": "8"}, deleted("a"))),
		answer("c5", updates("c5", crumbd.InSync, world{"b": "2", "c": "8"})))
	c := follow(t, d)
	c.next()
	c.expect("c2", "~a=9")
	c.expect("c3", "~c=8")
	c.expect("c4", "-a")
	c.expect("c5", "-d")
	if c.known.digest() != (world{"b": "2", "c": "8"}).digest() {
		t.Errorf("known: %v", c.known)
	}
}

// Rule empty.
func TestAnEmptyStateAfterAGapIsNotTakenOver(t *testing.T) {
	t.Parallel()
	steps := func() []step {
		return []step{
			answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1", "b": "2"})),
			refused(410, "gone", "the cursor is gone"),
			answer("c2", snapshot("c2", crumbd.InSync, world{})),
			answer("c3", snapshot("c3", crumbd.InSync, world{})),
			answer("c4", snapshot("c4", crumbd.InSync, world{"b": "2"})),
			answer("c5", updates("c5", crumbd.InSync, world{}, deleted("b"))),
		}
	}
	d := newDaemon(t, steps()...)
	c := follow(t, d)
	c.next()
	c.expect("c4", "-a")
	c.expect("c5", "-b") // It became empty by a deletion.
	askedFor(t, d, current, "/v1/breadcrumbs/c1/next", current, current, current, "/v1/breadcrumbs/c4/next")
	var held *crumbd.EmptyStateError
	if failures := c.retried(); len(failures) != 3 || !errors.As(failures[1], &held) || held.Held != 2 {
		t.Errorf("failures %v", failures)
	}

	d = newDaemon(t, steps()...)
	c = newClient(t, crumbd.Options{Endpoints: []string{d.URL}, AllowEmpty: true})
	c.next()
	c.expect("c2", "-a", "-b")
}

// Rule later.
func TestRetryAfterIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, code := range []int{429, 503} {
		d := newDaemon(t,
			answer("c1", snapshot("c1", crumbd.InSync, world{})),
			refused(code, "over-budget", "too many", "Retry-After", "1"),
			answer("c2", updates("c2", crumbd.InSync, world{"a": "1"}, put("new", "a", "1"))))
		c := follow(t, d)
		c.next()
		c.expect("c2", "+a=1")
		if pause := d.at(2).Sub(d.at(1)); pause < time.Second || pause > 11*time.Second {
			t.Errorf("%d: asked again after %v", code, pause)
		}
		askedFor(t, d, current, "/v1/breadcrumbs/c1/next", "/v1/breadcrumbs/c1/next")
	}
}

// Rule pace.
func TestAnOutageIsMetWithFewRequests(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	for i := 0; i < 100; i++ {
		d.steps = append(d.steps, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}
	c := follow(t, d)
	timer := time.AfterFunc(3*time.Second, c.follower.Close)
	defer timer.Stop()
	if _, err := c.follower.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if n := len(d.requests()); n > 10 || n < 2 {
		t.Errorf("%d requests in 3 s", n)
	}
}

// Rule fatal.
func TestWhatCannotBeHelpedEndsTheFollower(t *testing.T) {
	t.Parallel()
	for _, code := range []int{400, 401, 403, 404, 406} {
		d := newDaemon(t, refused(code, "no", "the token may not read this"))
		c := follow(t, d)
		_, err := c.follower.Next()
		var status *crumbd.StatusError
		if !errors.As(err, &status) || status.Code != code || !strings.Contains(err.Error(), "the token may not read this") {
			t.Errorf("%d: ended with %v", code, err)
		}
		if _, again := c.follower.Next(); again != err {
			t.Errorf("the next Next said %v", again)
		}
		c.failedWith()
	}
}

func TestChangedRightsAreAskedForAgain(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"})),
		refused(410, "rights-changed", "the rights of the token have changed"),
		answer("c2", snapshot("c2", crumbd.InSync, world{"b": "2"})),
		refused(403, "permission-changed", "the rights of the token have changed"),
		answer("c3", snapshot("c3", crumbd.InSync, world{"c": "3"})),
		refused(403, "forbidden", "the token may read nothing"))
	c := follow(t, d)
	c.next()
	if event := c.expect("c2", "-a", "+b=2"); event.Gap != crumbd.RightsChanged {
		t.Errorf("%+v", event)
	}
	if event := c.expect("c3", "-b", "+c=3"); event.Gap != crumbd.RightsChanged {
		t.Errorf("%+v", event)
	}
	if _, err := c.follower.Next(); err == nil || !strings.Contains(err.Error(), "the token may read nothing") {
		t.Errorf("ended with %v", err)
	}
}

// Rule bytes.
func TestKeysAndValuesAreBytes(t *testing.T) {
	t.Parallel()
	w := world{
		"":                 "",
		"nul\x00":          "\x00",
		"\xff\xfe":         "\x80",
		"escapes\"\\/\n\t": "\b\f\r\u2028\U0001F600",
		"numbers":          `{"a":1.50,"a":1e2,"n":12345678901234567890}`,
		"lone":             `"\ud800"`,
		"html":             "<&>",
	}
	body := snapshot("c1", crumbd.InSync, w)
	after := world{}
	for key, value := range w {
		after[key] = value
	}
	after["json"] = `{"b":1.50,"a":[1e2,"x y"],"a":null}`
	after["😀"] = "/"
	after["null"] = "null"
	d := newDaemon(t, answer("c1", body), answer("c2", updates("c2", crumbd.InSync, after,
		`{"type":"new","key":"json","value": {"b": 1.50 , "a" : [1e2, "x y"],"a":null } }`,
		`{"encoding":"utf8","value":"\/","key":"\ud83d\uDE00","type":"new"}`,
		`{"type":"new","key":"null","value":null,"encoding":null}`)))
	c := follow(t, d)
	c.next()
	for key, value := range w {
		if got, ok := c.known[key]; !ok || got != value {
			t.Errorf("key %q: %q, want %q", key, got, value)
		}
	}
	c.next()
	c.failedWith()
	if c.known.digest() != after.digest() {
		t.Errorf("known: %q", c.known)
	}
}

// A key that changes twice in one answer is told once.
func TestTheLastUpdateOfAKeyCounts(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1", "b": "1"})),
		answer("c2", updates("c2", crumbd.InSync, world{"a": "3"},
			put("updated", "a", "2"), put("updated", "a", "3"), deleted("b"), put("new", "b", "2"), deleted("b"), put("new", "c", "1"), deleted("c"))))
	c := follow(t, d)
	c.next()
	c.expect("c2", "~a=3", "-b")
	c.failedWith()
}

// Rule coding.
func TestGzipIsDecoded(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Errorf("Accept-Encoding is %q", r.Header.Get("Accept-Encoding"))
		}
		linked(w, "c1")
		w.Header().Set("Content-Type", "application/x-ndjson; values=string")
		w.Header().Set("Content-Encoding", "gzip")
		coded := gzip.NewWriter(w)
		fmt.Fprint(coded, snapshot("c1", crumbd.InSync, world{"a": strings.Repeat("x", 100_000)}))
		_ = coded.Close()
	})
	c := follow(t, d)
	if event := c.next(); len(event.Changes[0].Value) != 100_000 {
		t.Errorf("%d bytes", len(event.Changes[0].Value))
	}
}

// Rule prefix.
func TestAPrefixIsSentAsBytes(t *testing.T) {
	t.Parallel()
	body := `{"type":"snapshot","cursor":"c1","status":"in-sync"}` + "\n" + put("new", "a /\xff1", "1") + "\n" + `{"type":"end","cursor":"c1"}`
	d := newDaemon(t, answer("c1", body))
	c := newClient(t, crumbd.Options{Endpoints: []string{d.URL}, Prefix: []byte("a /\xff+&"), Collection: "pods"})
	c.expect("c1", "+a /\xff1=1")
	askedFor(t, d, "/v1/c/pods/breadcrumbs/current?prefix=a%20%2F%FF%2B%26")
}

// Rule new-fields.
func TestWhatIsNewIsIgnored(t *testing.T) {
	t.Parallel()
	w := world{"a": "1"}
	body := `{"type":"snapshot","cursor":"c1","status":"in-sync","Cursor":"no","shape":{"x":[1,"}"]},` + w.proof() + "}\n\n" +
		`{"type":"note","key":"x","value":"y","text":"hello"}` + "\n" +
		`{"type":"new","key":"a","Key":"b","VALUE":"2","value":"1","encoding":"utf8","Encoding":"base64","labels":{"key":"z"},"ttl":5}` + "\n" +
		`{"type":"end","cursor":"c1","took":1.5,` + w.proof() + "}\n" + `{"type":"trailer"}` + "\n"
	d := newDaemon(t, answer("c1", body))
	follow(t, d).expect("c1", "+a=1")
}

// Rule silence.
func TestSilenceIsGivenUpAndSlownessIsNot(t *testing.T) {
	t.Parallel()
	whole := updates("c2", crumbd.InSync, world{"a": "2"}, put("updated", "a", "2"))
	silentBody := func(w http.ResponseWriter, r *http.Request) {
		linked(w, "c2")
		ndjson(w, whole[:20])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	slow := func(w http.ResponseWriter, r *http.Request) {
		linked(w, "c2")
		for i := range whole { // Longer than the limit as a whole.
			ndjson(w, whole[i:i+1])
			w.(http.Flusher).Flush()
			time.Sleep(4 * time.Millisecond)
		}
	}
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	d := newDaemon(t, answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"})), silent, silentBody, slow)
	c := newClient(t, crumbd.Options{Endpoints: []string{d.URL}, Timeout: 600 * time.Millisecond})
	c.next()
	c.expect("c2", "~a=2")
	next := "/v1/breadcrumbs/c1/next?wait=300ms"
	askedFor(t, d, current, next, next, next)
	c.failedWith(crumbd.ErrSilent, crumbd.ErrSilent)
}

// Rule ahead.
func TestAReplicaThatIsBehindIsNotAskedInALoop(t *testing.T) {
	t.Parallel()
	d := newDaemon(t,
		answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"})),
		moved("c1"), moved("c1"),
		answer("c2", updates("c2", crumbd.InSync, world{}, deleted("a"))))
	c := follow(t, d)
	c.next()
	c.expect("c2", "-a")
	c.failedWith()
}

// Rule pace.
func TestAnswersThatMoveNothingAreMetWithFewRequests(t *testing.T) {
	t.Parallel()
	w := world{"a": "1"}
	same := snapshot("c1", crumbd.InSync, w)
	for name, stuck := range map[string]step{
		"a 204":            moved("c1"),
		"the state again":  answer("c1", same),
		"updates of none":  answer("c1", updates("c1", crumbd.InSync, w)),
		"a hint before it": hinted(answer("c1", same)),
	} {
		stuck := stuck
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDaemon(t, answer("c1", same))
			for i := 0; i < 1000; i++ {
				d.steps = append(d.steps, stuck)
			}
			c := follow(t, d)
			c.next()
			timer := time.AfterFunc(5*time.Second, c.follower.Close)
			defer timer.Stop()
			if event, err := c.follower.Next(); !errors.Is(err, context.Canceled) {
				t.Errorf("told %+v, ended with %v", event, err)
			}
			if n := len(d.requests()); n > 11 || n < 3 {
				t.Errorf("%d requests in 5 s", n)
			}
		})
	}
}

// hinted is an answer after an interim one.
func hinted(then step) step {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", `</x>; rel="next"`)
		w.WriteHeader(http.StatusEarlyHints)
		then(w, r)
	}
}

// Rule empty.
func TestNarrowedRightsMayLeaveNothing(t *testing.T) {
	t.Parallel()
	changed := refused(403, "permission-changed", "the rights have changed")
	d := newDaemon(t,
		answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"})),
		changed,
		changed,
		refused(503, "starting", "not yet"),
		answer("c2", snapshot("c2", crumbd.ResyncInProgress, world{})),
		answer("c3", updates("c3", crumbd.InSync, world{})),
		answer("c4", updates("c4", crumbd.InSync, world{"b": "2"}, put("new", "b", "2"))),
		refused(410, "cursor-gone", "the cursor is gone"),
		answer("c5", snapshot("c5", crumbd.InSync, world{})),
		answer("c6", snapshot("c6", crumbd.InSync, world{"b": "3"})))
	c := follow(t, d)
	c.next()
	if event := c.expect("c2"); event.Gap != crumbd.RightsChanged {
		t.Errorf("%+v", event)
	}
	c.expect("c3", "-a")
	c.expect("c4", "+b=2")
	c.expect("c6", "~b=3") // An empty state for another reason is not taken over.
	var held *crumbd.EmptyStateError
	if failures := c.retried(); len(failures) != 5 || !errors.As(failures[4], &held) {
		t.Errorf("failures %v", failures)
	}
}

// Rules pace and fatal.
func TestEveryOtherStatusIsAFailureToRetry(t *testing.T) {
	t.Parallel()
	other := func(code int, body string, headers ...string) step {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}
	}
	page := "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n\x1b[31m" + strings.Repeat("long ", 100)
	target := newDaemon(t)
	for name, test := range map[string]struct {
		step step
		want string
	}{
		"redirect":     {other(302, "", "Location", "http://me:secret@"+target.Listener.Addr().String()+"/x"), "302: it redirects to http://…@"},
		"304":          {other(304, ""), "304: Not Modified"},
		"407":          {other(407, "who are you?"), "407: who are you?"},
		"410 of state": {refused(410, "cursor-gone", "it is gone"), "410: it is gone"},
		"413":          {other(413, ""), "413: Request Entity Too Large"},
		"418":          {other(418, "tea"), "418: tea"},
		"421":          {refused(421, "unknown-host", "not by\nthat name"), "421: not by that name"},
		"502":          {other(502, page, "Content-Encoding", "br"), "502: Bad Gateway"},
		"502 page":     {other(502, page), "502: <html> <head><title>502 Bad Gateway</title></head> [31mlong long"},
		"media type":   {other(200, "{}", "Content-Type", "application/json"), `with Content-Type "application/json"`},
	} {
		d := newDaemon(t, test.step, answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"})))
		c := newClient(t, crumbd.Options{Endpoints: []string{d.URL}, Token: "t"})
		c.expect("c1", "+a=1")
		askedFor(t, d, current, current)
		failures := c.retried()
		if len(failures) != 1 {
			t.Fatalf("%s: failures %v", name, failures)
		}
		said := failures[0].Error()
		if !strings.Contains(said, test.want) || !strings.Contains(said, d.URL+current) || strings.ContainsAny(said, "\r\n\x1b") || strings.Contains(said, "secret") || len(said) > 350 {
			t.Errorf("%s: said %q", name, said)
		}
	}
	if followed := target.requests(); len(followed) > 0 {
		t.Errorf("a redirect was followed: %q", followed)
	}
}

func TestAnAnswerBeyondTheLimitsIsAskedForAgain(t *testing.T) {
	t.Parallel()
	body := snapshot("c1", crumbd.InSync, world{"a": strings.Repeat("x", 200_000), "b": "1"})
	for name, opts := range map[string]crumbd.Options{
		"MaxLineBytes": {MaxLineBytes: 100_000},
		"MaxBodyBytes": {MaxBodyBytes: 200_100},
	} {
		d := newDaemon(t, answer("c1", body), answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"})))
		opts.Endpoints = []string{d.URL}
		c := newClient(t, opts)
		c.expect("c1", "+a=1")
		var tooLarge *crumbd.LimitError
		if failures := c.retried(); len(failures) != 1 || !errors.As(failures[0], &tooLarge) || tooLarge.Option != name || !strings.Contains(failures[0].Error(), d.URL) {
			t.Errorf("%s: failures %v", name, failures)
		}
	}
}

func TestWrongOptionsAreSaidAtTheFirstNext(t *testing.T) {
	t.Parallel()
	for _, opts := range []crumbd.Options{
		{},
		{Endpoints: []string{"127.0.0.1:7811"}},
		{Endpoints: []string{"http://127.0.0.1:1?x=1"}},
		{Endpoints: []string{"http://:80"}},
		{Endpoints: []string{"http://127.0.0.1:0"}},
		{Endpoints: []string{"http://me:secret@127.0.0.1"}},
		{Endpoints: []string{"ftp://me:secret@127.0.0.1"}},
		{Endpoints: []string{"http://me:secret@127.0.0.1:x"}},
		{Endpoints: []string{"http://127.0.0.1:1"}, CAFile: "/does/not/exist"},
		{Endpoints: []string{"http://127.0.0.1:1"}, Transport: 7},
		{Endpoints: []string{"http://127.0.0.1:1"}, Timeout: -1},
		{Endpoints: []string{"http://127.0.0.1:1"}, Token: "secret\n"},
	} {
		if event, err := crumbd.Follow(context.Background(), opts).Next(); err == nil {
			t.Errorf("%+v: %+v", opts, event)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("a secret is told: %v", err)
		}
	}
}

func TestAnEndpointMayHaveAPath(t *testing.T) {
	t.Parallel()
	for end, path := range map[string]string{"": "", "/": "", "//": "", "/base": "/base", "/a%2Fb//": "/a%2Fb", "/ü": "/%C3%BC"} {
		d := newDaemon(t, answer("c1", snapshot("c1", crumbd.InSync, world{})))
		newClient(t, crumbd.Options{Endpoints: []string{d.URL + end}}).next()
		askedFor(t, d, path+current)
	}
}

// The token goes to no other host.
func TestALinkLeadsToTheSameHost(t *testing.T) {
	t.Parallel()
	other := newDaemon(t)
	host := strings.TrimPrefix(other.URL, "http://")
	for link, asked := range map[string]string{
		other.URL + "/v1/next": "/v1/next",
		"//" + host + "/next":  "/next",
		"/x/..//" + host:       "//" + host,
		"http://a//" + host:    "//" + host,
	} {
		link := link
		d := newDaemon(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "<"+link+`>; rel="next"`)
			ndjson(w, snapshot("c1", crumbd.InSync, world{}))
		}, answer("c2", updates("c2", crumbd.InSync, world{"a": "1"}, put("new", "a", "1"))))
		c := follow(t, d)
		c.next()
		c.expect("c2", "+a=1")
		askedFor(t, d, current, asked)
	}
	if asked := other.requests(); len(asked) != 0 {
		t.Errorf("another host was asked: %v", asked)
	}
}

func TestAFollowerIsClosedAtAnyTime(t *testing.T) {
	t.Parallel()
	whole := answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"}))
	for name, transport := range map[string]crumbd.Transport{"poll": crumbd.Poll, "stream": crumbd.Stream} {
		first := whole
		if transport == crumbd.Stream {
			first = parts(snapshot("c1", crumbd.InSync, world{"a": "1"}), updates("c2", crumbd.InSync, world{}, deleted("a")))
		}
		ended := func(when string, f *crumbd.Follower) {
			for i := 0; i < 2; i++ {
				if event, err := f.Next(); !errors.Is(err, context.Canceled) {
					t.Errorf("%s, %s: %+v %v", name, when, event, err)
				}
				f.Close()
			}
		}
		unused := newClient(t, crumbd.Options{Endpoints: []string{newDaemon(t).URL}, Transport: transport}).follower
		unused.Close()
		unused.Close()
		ended("before the first event", unused)

		ctx, cancel := context.WithCancel(context.Background())
		between := crumbd.Follow(ctx, crumbd.Options{Endpoints: []string{newDaemon(t, first).URL}, Transport: transport})
		if _, err := between.Next(); err != nil {
			t.Fatal(err)
		}
		cancel()
		ended("between two events", between)

		d := newDaemon(t)
		waiting := newClient(t, crumbd.Options{Endpoints: []string{d.URL}, Transport: transport}).follower
		go func() {
			eventually(t, "it waits", func() bool { return len(d.requests()) == 1 })
			waiting.Close()
		}()
		ended("while it waits", waiting)
	}
}

func TestAVeryShortTimeoutIsNoLoop(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, answer("c1", snapshot("c1", crumbd.InSync, world{})))
	for i := 0; i < 10_000; i++ {
		d.steps = append(d.steps, moved("c1"))
	}
	c := newClient(t, crumbd.Options{Endpoints: []string{d.URL}, Timeout: time.Second / 10})
	c.next()
	timer := time.AfterFunc(2*time.Second, c.follower.Close)
	defer timer.Stop()
	_, _ = c.follower.Next()
	if n := len(d.requests()); n > 10 {
		t.Errorf("%d requests in 2 s", n)
	}
}

func TestOverTLSTheAuthorityIsChecked(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		d := &daemon{steps: []step{
			answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"})),
			answer("c2", updates("c2", crumbd.InSync, world{}, deleted("a"))),
		}}
		server := httptest.NewUnstartedServer(d)
		server.EnableHTTP2 = http2
		server.Config.ErrorLog = golog.New(io.Discard, "", 0)
		server.StartTLS()
		defer server.Close()
		defer server.CloseClientConnections()
		ca := filepath.Join(t.TempDir(), "ca.pem")
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(ca, block, 0o600); err != nil {
			t.Fatal(err)
		}
		c := newClient(t, crumbd.Options{Endpoints: []string{server.URL}, CAFile: ca})
		c.expect("c1", "+a=1")
		c.expect("c2", "-a")

		refused := make(chan error, 100)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		stranger := crumbd.Follow(ctx, crumbd.Options{
			Endpoints: []string{server.URL},
			OnRetry: func(err error, _ time.Duration) {
				refused <- err
				cancel()
			},
		})
		if event, err := stranger.Next(); err == nil {
			t.Errorf("an unknown authority was trusted: %+v", event)
		}
		if err := <-refused; !strings.Contains(err.Error(), "certificate") {
			t.Errorf("refused with %v", err)
		}
		c.follower.Close()
	}
}

func TestWhatIsNoDaemonIsNotApplied(t *testing.T) {
	t.Parallel()
	page := func(w http.ResponseWriter, _ *http.Request) {
		linked(w, "c0")
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<p>Log in</p>")
	}
	d := newDaemon(t, page, answer("c1", "{]\n"), answer("c1", "[1]\n"),
		answer("c1", snapshot("c1", crumbd.InSync, world{"a": "1"})))
	c := follow(t, d)
	c.expect("c1", "+a=1")
	if len(c.retried()) != 3 {
		t.Errorf("failures %v", c.retried())
	}
}

package crumbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxRest is how much may come after the end record of an answer.
const maxRest = 1 << 20

// Follower reads the state of a daemon and then every change of it. It is an iterator: each Next returns what the next
// answer changed. It is for one goroutine; only Close may be called from others.
//
// A follower always continues from the last answer that it applied. It has no goroutines of its own: requests are made
// in Next.
type Follower struct {
	opts      Options
	ctx       context.Context
	cancel    context.CancelFunc
	requester *requester
	endpoints []endpoint
	// endpoint is the index of the replica that is asked now.
	endpoint int
	state    *state
	backoff  *backoff
	// next is the path and query of the next request of a poll, as the daemon gave it.
	next string
	// cursor is where to continue from; empty if only a whole state helps. rights is what the state was read under.
	cursor, rights string
	// gap says why the state was lost.
	gap Gap
	// narrowed: the rights have changed, and no state under the new ones was in-sync yet. It may well be empty.
	narrowed bool
	open     *openStream
	// asked is the address that was asked last, as errors name it.
	asked string
	// pause is what has to pass before the next request after an answer that moved nothing.
	pause time.Duration
	// ended is the error that ended the follower.
	ended error
}

// Follow returns a follower. Nothing is sent before the first Next. It ends with the context, or by Close. What is
// wrong with the options is the error of the first Next.
func Follow(ctx context.Context, opts Options) *Follower {
	return follow(ctx, opts, newState())
}

func follow(ctx context.Context, opts Options, state *state) *Follower {
	f := &Follower{state: state, backoff: &backoff{}}
	f.ctx, f.cancel = context.WithCancel(ctx)
	f.opts, f.ended = opts.withDefaults()
	if f.ended == nil {
		f.endpoints, f.ended = f.opts.endpoints()
	}
	if f.ended == nil {
		f.requester, f.ended = newRequester(f.opts)
	}
	if f.ended != nil {
		f.cancel()
	}
	return f
}

// Close ends the follower and its connection. A Next that waits returns.
func (f *Follower) Close() { f.cancel() }

// Next waits for the next change of the state or its status and returns it. The first event is the whole state. After
// failures it goes on by itself, with pauses; Options.OnRetry is told. The errors that it returns are final: the
// context's, a StatusError that asking again does not help, or what is wrong with the options.
func (f *Follower) Next() (Event, error) {
	for f.ended == nil {
		if f.ctx.Err() != nil { // What a stream has sent already is not told any more.
			f.closeStream()
			f.end(f.ctx.Err())
			break
		}
		event, tell, err := f.attempt()
		if err == nil {
			if tell {
				return event, nil
			}
			continue
		}
		f.closeStream()
		if f.ctx.Err() != nil {
			f.end(f.ctx.Err())
		} else if fatal(err) {
			f.end(err)
		} else {
			f.recover(err)
		}
	}
	return Event{}, f.ended
}

func (f *Follower) end(err error) {
	f.ended = err
	f.cancel()
	f.requester.client.CloseIdleConnections()
}

// recover decides how to go on after a failure, and pauses.
func (f *Follower) recover(err error) {
	var gap *gapError
	var empty *EmptyStateError
	var status *StatusError
	pause := f.backoff.failed(time.Now())
	switch {
	case errors.As(err, &gap):
		f.lose(gap.gap)
	case errors.As(err, &empty), errors.Is(err, ErrStreamEnded):
		// The replica is well.
	default:
		f.endpoint = (f.endpoint + 1) % len(f.endpoints)
	}
	if errors.As(err, &status) {
		pause += status.RetryAfter // Not before, and the random part keeps clients apart.
	}
	if f.opts.OnRetry != nil {
		if !strings.Contains(err.Error(), f.asked) {
			err = fmt.Errorf("%s: %w", f.asked, err)
		}
		f.opts.OnRetry(err, pause)
	}
	if err := sleep(f.ctx, pause); err != nil {
		f.end(err)
	}
}

// lose gives up the cursor. The state stays, so that the difference to the next one can be told.
func (f *Follower) lose(gap Gap) {
	f.cursor, f.next = "", ""
	if f.gap == "" || gap == RightsChanged { // Otherwise the first reason led to the others.
		f.gap = gap
	}
	f.narrowed = f.narrowed || gap == RightsChanged
}

// attempt makes one request, or reads one body of a stream. It reports whether there is anything to tell.
func (f *Follower) attempt() (Event, bool, error) {
	if pause := f.pause; pause > 0 {
		f.pause = 0
		if err := sleep(f.ctx, pause); err != nil {
			return Event{}, false, err
		}
	}
	switch {
	case f.opts.Transport == Stream && (f.open != nil || f.cursor != "" || f.gap == ""):
		return f.readStream()
	case f.cursor == "":
		return f.readCurrent()
	default:
		return f.readNext()
	}
}

// readCurrent reads the whole state.
func (f *Follower) readCurrent() (Event, bool, error) {
	address := f.endpoints[f.endpoint].address("/breadcrumbs/current")
	if len(f.opts.Prefix) > 0 {
		address.RawQuery = "prefix=" + escape(string(f.opts.Prefix))
	}
	f.asked = where(address)
	answer, err := f.requester.get(f.ctx, address, "gzip")
	if err != nil {
		return Event{}, false, continuing(err)
	}
	defer answer.close()
	if answer.code != http.StatusOK {
		return Event{}, false, fmt.Errorf("%s answered %d: a state was asked for", f.asked, answer.code)
	}
	return f.readBody(answer)
}

// readNext waits for what comes after the cursor.
func (f *Follower) readNext() (Event, bool, error) {
	address, err := f.endpoints[f.endpoint].linked(f.next)
	if err != nil {
		return Event{}, false, &gapError{CursorGone, err}
	}
	wait := min(daemonWait, f.opts.Timeout/2)
	if wait < daemonWait {
		address.RawQuery = strings.TrimPrefix(address.RawQuery+fmt.Sprintf("&wait=%dms", wait.Milliseconds()), "&")
	}
	f.asked = where(address)
	begun, before := time.Now(), f.state.cursor
	answer, err := f.requester.get(f.ctx, address, "gzip")
	if err != nil {
		return Event{}, false, continuing(err)
	}
	defer answer.close()
	var event Event
	var tell bool
	if answer.code == http.StatusNoContent {
		event, tell, err = f.move(answer)
	} else {
		event, tell, err = f.readBody(answer)
	}
	if err != nil {
		return Event{}, false, err
	}
	// A daemon takes a little off the wait. One that answers earlier, and moves nothing, is a replica that is behind, or
	// broken. Never ask in a loop.
	if f.state.cursor == before && time.Since(begun) < max(wait*3/4, shortestWait) {
		f.pause = f.backoff.failed(time.Now())
	} else {
		f.backoff.succeeded()
	}
	return event, tell, nil
}

// continuing finds out whether a refusal means that the state cannot be continued.
func continuing(err error) error {
	var status *StatusError
	if !errors.As(err, &status) || (status.Code != http.StatusGone && !status.rightsHaveChanged()) {
		return err
	}
	gap := CursorGone
	if status.rightsHaveChanged() {
		gap = RightsChanged
	}
	return &gapError{gap, fmt.Errorf("%w: %v", ErrGone, status)}
}

// move follows an answer without a body.
func (f *Follower) move(answer *answer) (Event, bool, error) {
	next, err := nextLink(answer.header, answer.asked)
	if err != nil {
		return Event{}, false, err
	}
	if err := f.checkRights(linkedRights(next)); err != nil {
		return Event{}, false, err
	}
	event, tell, err := f.state.update(&body{
		cursor: answer.header.Get("Crumbd-Cursor"),
		status: answer.header.Get("Crumbd-Status"),
	})
	f.next = pathAndQuery(next)
	f.settle()
	return event, tell, err
}

// settle notes that a state is complete: if the next one that is read is empty, it is not because of the rights.
func (f *Follower) settle() {
	if f.state.status == InSync {
		f.narrowed = false
	}
}

// readBody reads and applies the one body of an answer to a poll.
func (f *Follower) readBody(answer *answer) (Event, bool, error) {
	next, err := nextLink(answer.header, answer.asked)
	if err != nil {
		return Event{}, false, err
	}
	rights := linkedRights(next)
	if err := f.checkRights(rights); err != nil {
		return Event{}, false, err
	}
	lines := newLineReader(answer.body, f.opts.MaxLineBytes)
	decoder := f.decoder()
	var whole *body
	rest := int64(maxRest)
	for {
		line, err := lines.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return Event{}, false, cutOff(err)
		}
		if len(line) > 0 && whole == nil {
			body, err := decoder.take(line)
			if err != nil {
				return Event{}, false, err
			}
			whole = body
		} else if rest -= int64(len(line)); rest < 0 {
			return Event{}, false, errors.New("an answer goes on after its end record")
		}
		if err != nil { // The end of the answer: only now it is whole.
			break
		}
	}
	if whole == nil {
		return Event{}, false, cutOff(io.ErrUnexpectedEOF)
	}
	if cursor := answer.header.Get("Crumbd-Cursor"); cursor != "" {
		whole.cursor = cursor
	}
	if whole.status == "" {
		whole.status = answer.header.Get("Crumbd-Status")
	}
	event, tell, err := f.apply(whole, rights)
	if err == nil {
		f.next = pathAndQuery(next)
	}
	return event, tell, err
}

func (f *Follower) decoder() *bodyDecoder {
	return &bodyDecoder{known: f.state.value, maxBytes: f.opts.MaxBodyBytes}
}

// apply applies a whole body: all of it or, with an error, nothing.
func (f *Follower) apply(whole *body, rights string) (Event, bool, error) {
	if whole.kind == snapshotBody {
		if err := whole.check(len(whole.entries), whole.sum); err != nil {
			return Event{}, false, &gapError{Mismatch, err}
		}
		if held := len(f.state.values); held > 0 && len(whole.entries) == 0 && !f.opts.AllowEmpty && !f.narrowed {
			f.lose(CursorGone)
			return Event{}, false, &EmptyStateError{Held: held}
		}
		gap := f.gap
		if gap == "" && f.state.begun {
			gap = CursorGone // A state where updates were expected.
		}
		event, tell := f.state.replace(whole, gap)
		f.cursor, f.rights, f.gap = whole.cursor, rights, ""
		f.settle()
		return event, tell, nil
	}
	if whole.kind != updatesBody || f.cursor == "" {
		return Event{}, false, errors.New("updates came where a whole state was asked for")
	}
	event, tell, err := f.state.update(whole)
	if err != nil {
		return Event{}, false, &gapError{Mismatch, err}
	}
	if whole.cursor != f.cursor {
		f.backoff.succeeded()
	}
	f.cursor = whole.cursor
	f.settle()
	return event, tell, nil
}

// checkRights refuses to continue a state that was read from a daemon without tokens under the rights of a token. In
// every other case the daemon itself refuses, because the link and the cursor of a stream carry the rights.
func (f *Follower) checkRights(rights string) error {
	if f.cursor != "" && f.rights == "" && rights != "" && rights != "0" {
		return &gapError{RightsChanged, fmt.Errorf("%w: the daemon has tokens now", ErrGone)}
	}
	return nil
}

func linkedRights(next *url.URL) string { return next.Query().Get("rights") }

// pathAndQuery is what of a link is the same at every replica.
func pathAndQuery(link *url.URL) string {
	out := link.EscapedPath()
	if link.RawQuery != "" {
		out += "?" + link.RawQuery
	}
	return out
}

// cutOff says of an error in a body what it means.
func cutOff(err error) error {
	var limit *LimitError
	if errors.As(err, &limit) || errors.Is(err, ErrSilent) {
		return err
	}
	return fmt.Errorf("%w: %v", ErrCutOff, err)
}

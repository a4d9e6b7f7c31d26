package crumbd

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Failures after which a follower goes on by itself, as Options.OnRetry is told them; test for them with errors.Is.
var (
	// ErrGone: the state cannot be continued and is read again.
	ErrGone = errors.New("the state cannot be continued from this cursor")
	// ErrMismatch: an answer did not lead to the count or digest that it names. Nothing of it was applied.
	ErrMismatch = errors.New("the answer does not lead to the state that it names")
	// ErrCutOff: an answer ended too early. Nothing of it was applied.
	ErrCutOff = errors.New("the answer was cut off")
	// ErrSilent: nothing came for longer than Options.Timeout.
	ErrSilent = errors.New("the daemon was silent")
	// ErrStreamEnded: the daemon ended a stream between two bodies, as it does when it stops.
	ErrStreamEnded = errors.New("the daemon ended the stream")
)

// StatusError is an answer that refuses a request.
type StatusError struct {
	// Code is the HTTP status.
	Code int
	// Type, Title and Detail are those of the daemon's problem document, where the answer had one.
	Type, Title, Detail string
	// Endpoint is the address that was asked, without its query.
	Endpoint string
	// Location is where a redirect leads. It is not followed.
	Location string
	// RetryAfter is the pause that the daemon asked for.
	RetryAfter time.Duration
	// excerpt is the beginning of a body that is no problem document.
	excerpt string
}

func (e *StatusError) Error() string {
	if e.Location != "" {
		return fmt.Sprintf("%s answered %d: it redirects to %s, which is not followed; give the address of the daemon itself", e.Endpoint, e.Code, e.Location)
	}
	const most = 2000
	for _, sentence := range []string{oneLine(e.Detail, most), oneLine(e.Title, most), e.excerpt, http.StatusText(e.Code)} {
		if sentence != "" {
			return fmt.Sprintf("%s answered %d: %s", e.Endpoint, e.Code, sentence)
		}
	}
	return fmt.Sprintf("%s answered %d", e.Endpoint, e.Code)
}

// rightsHaveChanged reports whether the rights of the client have changed. A client that waited meanwhile is told so by
// 403; the answer to its next request tells whether any rights are left.
func (e *StatusError) rightsHaveChanged() bool {
	switch e.Type {
	case "urn:crumbd:problem:rights-changed":
		return e.Code == http.StatusGone
	case "urn:crumbd:problem:permission-changed":
		return e.Code == http.StatusForbidden
	}
	return false
}

// Fatal reports whether asking again cannot help.
func (e *StatusError) Fatal() bool {
	if e.rightsHaveChanged() {
		return false
	}
	switch e.Code {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusNotAcceptable:
		return true
	}
	return false
}

// EmptyStateError says that the daemon's state was empty when it was read again. The keys were kept, and the state is
// read again after a pause. Options.AllowEmpty accepts it.
type EmptyStateError struct {
	// Held is the number of keys that were kept.
	Held int
}

func (e *EmptyStateError) Error() string {
	return fmt.Sprintf("the daemon's state is empty after a resync: its %d keys are kept (AllowEmpty accepts an empty state)", e.Held)
}

// LimitError says that an answer is larger than an option allows. Nothing of it was applied, and it is asked for again.
type LimitError struct {
	// Option is the name of the option, and Limit its value in bytes.
	Option string
	Limit  int64
}

func (e *LimitError) Error() string {
	what := "an answer"
	if e.Option == "MaxLineBytes" {
		what = "a record of an answer"
	}
	return fmt.Sprintf("%s is larger than %d bytes: raise Options.%s if that is right", what, e.Limit, e.Option)
}

// gapError loses the state: it is read again.
type gapError struct {
	gap    Gap
	reason error
}

func (e *gapError) Error() string { return fmt.Sprintf("the state is read again: %v", e.reason) }
func (e *gapError) Unwrap() error { return e.reason }

// fatal reports whether a follower ends with this error.
func fatal(err error) bool {
	var status *StatusError
	var gap *gapError
	if errors.As(err, &gap) {
		return false
	}
	return errors.As(err, &status) && status.Fatal()
}

// connectionError is a failure of the network or of the HTTP library, whose sentence may have anything in it.
type connectionError struct{ reason error }

func (e *connectionError) Error() string { return oneLine(e.reason.Error(), 500) }
func (e *connectionError) Unwrap() error { return e.reason }

// mostExcerpt is how much of what somebody else wrote is shown.
const mostExcerpt = 200

var userOfAddress = regexp.MustCompile(`//[^/?#\s]*@`)

// oneLine makes a text fit into a sentence: in one line, printable, not longer than most characters, and without the
// passwords of addresses.
func oneLine(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(char rune) rune {
		if unicode.IsPrint(char) {
			return char
		}
		return ' '
	}, text)
	text = userOfAddress.ReplaceAllString(strings.Join(strings.Fields(text), " "), "//…@")
	if chars := []rune(text); len(chars) > most {
		return string(chars[:most]) + "…"
	}
	return text
}

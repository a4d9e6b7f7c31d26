package crumbd

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// accept asks for values as strings, so that a value's bytes do not depend on a JSON parser.
const (
	contentType = "application/x-ndjson"
	accept      = contentType + "; values=string"
)

// requester asks one replica.
type requester struct {
	client  *http.Client
	timeout time.Duration
	headers http.Header
}

func newRequester(opts Options) (*requester, error) {
	client, err := opts.httpClient()
	if err != nil {
		return nil, err
	}
	headers := http.Header{"Accept": {accept}}
	if opts.Token != "" {
		headers.Set("Authorization", "Bearer "+opts.Token)
	}
	if opts.Name != "" {
		headers.Set("Crumbd-Client", opts.Name)
	}
	// Another address may belong to somebody else, who would be given the token.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &requester{client: client, timeout: opts.Timeout, headers: headers}, nil
}

// answer is the head of a 200 or 204, and its body as it comes.
type answer struct {
	code   int
	header http.Header
	asked  *url.URL
	body   io.Reader
	close  func()
}

// get asks for an address. Each other answer than 200 and 204 is a StatusError. The caller closes the answer.
func (r *requester) get(ctx context.Context, address *url.URL, coding string) (*answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	watch := newWatch(r.timeout, cancel)
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, watch.trace()), http.MethodGet, address.String(), nil)
	if err != nil {
		watch.rest()
		cancel()
		return nil, err
	}
	request.Header = r.headers.Clone()
	// Set here, so that net/http does not decompress behind the back of the watch: a slow body is not a silent one.
	request.Header.Set("Accept-Encoding", coding)
	response, err := r.client.Do(request)
	watch.rest()
	if err != nil {
		cancel()
		return nil, r.failure(err, watch)
	}
	out := &answer{code: response.StatusCode, header: response.Header, asked: address}
	out.close = func() {
		_ = response.Body.Close()
		cancel()
	}
	raw := &watchedBody{source: response.Body, watch: watch, failure: func(err error) error { return r.failure(err, watch) }}
	if out.body, err = decoded(raw, response.Header.Get("Content-Encoding")); err != nil && out.code == http.StatusOK {
		out.close()
		return nil, err
	}
	switch {
	case out.code == http.StatusNoContent:
		return out, nil
	case out.code != http.StatusOK:
		slow := time.AfterFunc(r.timeout, cancel)
		err = refusal(out, address)
		slow.Stop()
	default:
		if kind, _, _ := mime.ParseMediaType(out.header.Get("Content-Type")); kind == contentType {
			return out, nil
		}
		err = fmt.Errorf("%s answered with Content-Type %q in the place of %s: is it a crumbd daemon?",
			where(address), oneLine(out.header.Get("Content-Type"), mostExcerpt), contentType)
	}
	out.close()
	return nil, err
}

// failure says what went wrong. Connections that were silent are not used again.
func (r *requester) failure(err error, watch *watch) error {
	if !watch.hasFired() {
		return &connectionError{err}
	}
	r.client.CloseIdleConnections()
	return fmt.Errorf("%w for %v", ErrSilent, r.timeout)
}

// decoded undoes the coding of a body.
func decoded(raw io.Reader, coding string) (io.Reader, error) {
	switch strings.ToLower(strings.TrimSpace(coding)) {
	case "", "identity":
		return raw, nil
	case "gzip":
		return &gzipBody{raw: raw}, nil
	}
	err := fmt.Errorf("an answer has the Content-Encoding %q, which was not asked for", oneLine(coding, mostExcerpt))
	return strings.NewReader(""), err
}

// gzipBody begins to read at the first Read.
type gzipBody struct {
	raw    io.Reader
	member *gzip.Reader
}

func (b *gzipBody) Read(into []byte) (int, error) {
	if b.member == nil {
		member, err := gzip.NewReader(b.raw)
		if errors.Is(err, io.EOF) {
			return 0, io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		b.member = member
	}
	return b.member.Read(into)
}

// refusal reads what an answer that refuses says.
func refusal(out *answer, address *url.URL) error {
	refused := &StatusError{Code: out.code, Endpoint: where(address)}
	if out.code >= 300 && out.code < 400 {
		refused.Location = oneLine(out.header.Get("Location"), mostExcerpt)
	}
	var problem struct{ Type, Title, Detail string }
	const most = 64 << 10
	raw, err := io.ReadAll(io.LimitReader(out.body, most))
	if err == nil && json.Unmarshal(raw, &problem) == nil && problem.Detail+problem.Title != "" {
		refused.Type, refused.Title, refused.Detail = problem.Type, problem.Title, problem.Detail
	} else {
		refused.excerpt = oneLine(string(raw), mostExcerpt)
	}
	if out.code == http.StatusTooManyRequests || out.code == http.StatusServiceUnavailable {
		refused.RetryAfter = retryAfter(out.header.Get("Retry-After"), time.Now())
	}
	return refused
}

// retryAfter reads whole seconds or a date; what is neither counts as absent. A daemon asks for at most a minute; a
// proxy is believed up to five.
func retryAfter(text string, now time.Time) time.Duration {
	const most = 5 * time.Minute
	text = strings.TrimSpace(text)
	if text != "" && strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.ParseUint(text, 10, 64)
		if err != nil || seconds > uint64(most/time.Second) {
			return most
		}
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return min(max(date.Sub(now), 0), most)
	}
	return 0
}

// where names an address in an error, without its query.
func where(address *url.URL) string {
	short := *address
	short.RawQuery = ""
	return short.Redacted()
}

// nextLink returns the address with rel="next", resolved against the address that was asked.
func nextLink(header http.Header, asked *url.URL) (*url.URL, error) {
	for _, links := range header.Values("Link") {
		for links != "" {
			begin := strings.IndexByte(links, '<')
			if begin < 0 {
				break
			}
			end := strings.IndexByte(links[begin:], '>')
			if end < 0 {
				break
			}
			target := links[begin+1 : begin+end]
			var parameters string
			parameters, links = untilComma(links[begin+end+1:])
			if !isNext(parameters) {
				continue
			}
			next, err := asked.Parse(target)
			if err != nil {
				return nil, fmt.Errorf("the next link of an answer is no address: %w", err)
			}
			return next, nil
		}
	}
	return nil, errors.New(`an answer has no Link with rel="next", so it counts for nothing`)
}

// untilComma splits at the first comma outside quotes.
func untilComma(text string) (before, after string) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			quoted = !quoted
		case ',':
			if !quoted {
				return text[:i], text[i+1:]
			}
		}
	}
	return text, ""
}

func isNext(parameters string) bool {
	for _, parameter := range strings.Split(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "rel") {
			continue
		}
		for _, relation := range strings.Fields(strings.Trim(strings.TrimSpace(value), `"`)) {
			if strings.EqualFold(relation, "next") {
				return true
			}
		}
	}
	return false
}

// escape percent-encodes bytes for a query. A space becomes %20, which every server reads alike.
func escape(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

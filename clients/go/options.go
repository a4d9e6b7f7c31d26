package crumbd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Transport is the way in which changes are read.
type Transport int

const (
	// Poll asks for what comes next and waits for the answer. It works through every proxy.
	Poll Transport = iota
	// Stream reads one long response. It needs fewer requests.
	Stream
)

// The defaults of Options.
const (
	DefaultPollTimeout   = 60 * time.Second
	DefaultStreamTimeout = 45 * time.Second
	DefaultMaxLineBytes  = 64 << 20
	DefaultMaxBodyBytes  = 16 << 30
)

// daemonWait is how long a daemon waits for the next change when it is not told how long. An answer that comes within
// shortestWait did not wait, however short Options.Timeout is.
const (
	daemonWait   = 29 * time.Second
	shortestWait = 100 * time.Millisecond
)

// Options says what to follow and how. Only Endpoints is needed.
type Options struct {
	// Endpoints are the base addresses of one or several replicas, such as "http://127.0.0.1:7811". They may have a
	// path. The first one is asked first, and the next one when one fails.
	Endpoints []string
	// Collection names a collection of the daemon; empty for the default one.
	Collection string
	// Transport is Poll or Stream.
	Transport Transport
	// Prefix narrows the state to the keys that begin with it.
	Prefix []byte
	// Token is sent as "Authorization: Bearer TOKEN".
	Token string
	// Name names the client in the daemon's table of clients.
	Name string
	// TLS configures connections to https addresses.
	TLS *tls.Config
	// CAFile is a PEM file of the authorities to trust, in the place of the system's.
	CAFile string
	// RoundTripper replaces the HTTP transport; TLS and CAFile are not used then. Over HTTP/1.1 a chunk that comes more
	// slowly than Timeout is then taken for silence.
	RoundTripper http.RoundTripper
	// Timeout is how long to wait for the head of an answer, and for each next byte of it, before asking again.
	// Zero is DefaultPollTimeout or DefaultStreamTimeout.
	Timeout time.Duration
	// AllowEmpty accepts that the state is empty when it is read again. Without it the keys are kept until the
	// daemon has keys again: an empty state after a resync is more often a mistake than meant. Keys that the client may
	// not read any more are not kept.
	AllowEmpty bool
	// MaxLineBytes limits one record of an answer, and MaxBodyBytes a whole answer, both uncompressed. A larger one is a
	// failure (LimitError). Zero is DefaultMaxLineBytes and DefaultMaxBodyBytes.
	MaxLineBytes int64
	MaxBodyBytes int64
	// OnRetry, if set, is told each failure and the pause after it. It must not block for long.
	OnRetry func(err error, pause time.Duration)
}

// endpoint is a replica: the address of one of its collections, which ends with /v1 or /v1/c/NAME.
type endpoint struct{ base *url.URL }

// address returns an address below the collection's.
func (e endpoint) address(path string) *url.URL {
	return e.base.JoinPath(path)
}

// linked returns the address of a path and query that a daemon named. The host stays, whatever they are.
func (e endpoint) linked(pathAndQuery string) (*url.URL, error) {
	return url.Parse(e.base.Scheme + "://" + e.base.Host + pathAndQuery)
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Endpoints) == 0 {
		return o, errors.New(`Options.Endpoints is empty: it needs an address such as "http://127.0.0.1:7811"`)
	}
	if o.Transport != Poll && o.Transport != Stream {
		return o, fmt.Errorf("Options.Transport is %d: it must be Poll or Stream", o.Transport)
	}
	if o.Timeout < 0 || o.MaxLineBytes < 0 || o.MaxBodyBytes < 0 {
		return o, errors.New("Options.Timeout, MaxLineBytes and MaxBodyBytes must not be negative")
	}
	if !isHeaderText(o.Token) || !isHeaderText(o.Name) {
		return o, errors.New("Options.Token and Name must be printable ASCII without spaces: is there a line break at the end?")
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultPollTimeout
		if o.Transport == Stream {
			o.Timeout = DefaultStreamTimeout
		}
	}
	if o.MaxLineBytes == 0 {
		o.MaxLineBytes = DefaultMaxLineBytes
	}
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = DefaultMaxBodyBytes
	}
	return o, nil
}

func (o Options) endpoints() ([]endpoint, error) {
	var out []endpoint
	for _, text := range o.Endpoints {
		base, err := url.Parse(text)
		if err != nil {
			shown := text
			if at := strings.LastIndexByte(text, '@'); at >= 0 { // Not the password.
				shown = "…" + text[at:]
			}
			return nil, fmt.Errorf("the endpoint %q is no address: it needs one such as \"http://127.0.0.1:7811\"", shown)
		}
		if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
			return nil, fmt.Errorf("the endpoint %q must have no user, no query and no fragment: give a token as Options.Token", base.Redacted())
		}
		if base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" || base.Port() == "0" {
			return nil, fmt.Errorf("the endpoint %q must begin with http:// or https:// and name a host", text)
		}
		base = base.JoinPath("v1")
		if o.Collection != "" {
			base = base.JoinPath("c", o.Collection)
		}
		out = append(out, endpoint{base})
	}
	return out, nil
}

func (o Options) httpClient() (*http.Client, error) {
	if o.RoundTripper != nil {
		return &http.Client{Transport: o.RoundTripper}, nil
	}
	config := o.TLS.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("Options.CAFile cannot be read: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("Options.CAFile %s has no certificate in PEM", o.CAFile)
		}
	}
	dialer := &net.Dialer{Timeout: min(10*time.Second, o.Timeout), KeepAlive: 15 * time.Second}
	return &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			connection, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &activeConn{Conn: connection}, nil
		},
		TLSClientConfig:        config,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           2 * len(o.Endpoints),
		IdleConnTimeout:        60 * time.Second, // Below the 75 s after which a daemon closes.
		MaxResponseHeaderBytes: 1 << 20,
	}}, nil
}

func isHeaderText(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

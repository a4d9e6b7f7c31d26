package crumbd

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// watch cancels a request when nothing comes for too long: neither the head of its answer, nor the next byte of the
// body. It is at rest while the application does something else.
//
// A Read that returns is no measure of that. Over HTTP/1.1, net/http gives a chunk out only when it is whole, and a
// chunk may come slowly. So the bytes of the connection count. Over HTTP/2 they do not, because a daemon's pings are
// bytes too; there a Read returns what has come.
type watch struct {
	limit  time.Duration
	cancel func()

	mu      sync.Mutex
	timer   *time.Timer
	running bool
	fired   bool
	// inBody: the head has come.
	inBody     bool
	connection *activeConn
}

// newWatch returns a watch that runs.
func newWatch(limit time.Duration, cancel func()) *watch {
	w := &watch{limit: limit, cancel: cancel, running: true}
	w.mu.Lock() // The timer could fire before it is stored.
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(limit, w.check)
	return w
}

// trace finds out over which connection the request goes.
func (w *watch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		connection := info.Conn
		if secure, ok := connection.(*tls.Conn); ok {
			if secure.ConnectionState().NegotiatedProtocol == "h2" {
				return
			}
			connection = secure.NetConn()
		}
		active, _ := connection.(*activeConn)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.connection = active
	}}
}

// run gives the limit anew, for the next bytes of the body.
func (w *watch) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running, w.inBody = true, true
	w.timer.Reset(w.limit)
}

// rest stops the watch while nothing is waited for.
func (w *watch) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
	w.timer.Stop()
}

func (w *watch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running {
		return
	}
	if w.inBody && w.connection != nil {
		if left := w.limit - w.connection.silence(); left > 0 {
			w.timer.Reset(left)
			return
		}
	}
	w.fired = true
	w.cancel()
}

// hasFired reports whether the watch cancelled the request.
func (w *watch) hasFired() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fired
}

// watchedBody is a body under a watch.
type watchedBody struct {
	source  io.Reader
	watch   *watch
	failure func(error) error
}

func (b *watchedBody) Read(into []byte) (int, error) {
	b.watch.run()
	n, err := b.source.Read(into)
	b.watch.rest()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.failure(err)
	}
	return n, err
}

// activeConn knows when it last read anything.
type activeConn struct {
	net.Conn
	begun time.Time
	last  atomic.Int64 // Nanoseconds after begun.
}

func newActiveConn(connection net.Conn) *activeConn {
	return &activeConn{Conn: connection, begun: time.Now()}
}

func (c *activeConn) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	if n > 0 {
		c.last.Store(int64(time.Since(c.begun)))
	}
	return n, err
}

func (c *activeConn) silence() time.Duration {
	return time.Since(c.begun) - time.Duration(c.last.Load())
}

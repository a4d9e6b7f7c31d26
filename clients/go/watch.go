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
	tick   time.Duration
	cancel func()

	mu      sync.Mutex
	timer   *time.Timer
	running bool
	fired   bool
	// inBody: the head has come.
	inBody     bool
	connection *activeConn
	// received is what the connection had read at the last look, and inVain the number of looks since anything came.
	received uint64
	inVain   int
}

// ticks is how many times within the limit a watch looks whether anything came. It gives up when it has looked so often
// in vain. So a process that was stopped for a while looks again, once it has read what came meanwhile.
const ticks = 8

// newWatch returns a watch that runs.
func newWatch(limit time.Duration, cancel func()) *watch {
	w := &watch{tick: limit / ticks, cancel: cancel, running: true}
	w.mu.Lock() // The timer could fire before it is stored.
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.tick, w.look)
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
	w.running, w.inBody, w.inVain = true, true, 0
	w.timer.Reset(w.tick)
}

// rest stops the watch while nothing is waited for.
func (w *watch) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
	w.timer.Stop()
}

func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running {
		return
	}
	w.inVain++
	if w.inBody && w.connection != nil {
		if received := w.connection.received.Load(); received != w.received {
			w.received, w.inVain = received, 0
		}
	}
	if w.inVain < ticks {
		w.timer.Reset(w.tick)
		return
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

// activeConn counts the bytes that it has read.
type activeConn struct {
	net.Conn
	received atomic.Uint64
}

func (c *activeConn) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	c.received.Add(uint64(n))
	return n, err
}

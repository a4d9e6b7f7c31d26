package crumbd_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"math/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	crumbd "github.com/crumbd/crumbd/clients/go"
)

// realDaemon is a crumbd process with a push: feed, which keeps its address and state over restarts.
type realDaemon struct {
	t       *testing.T
	binary  string
	args    []string
	url     string
	token   string
	client  *http.Client
	process *exec.Cmd
	output  bytes.Buffer
}

// newRealDaemon starts the binary that CRUMBD_BIN names.
func newRealDaemon(t *testing.T, feed string, flags ...string) *realDaemon {
	t.Helper()
	d := realDaemonToStart(t, "http", feed, flags...)
	d.start()
	return d
}

// realDaemonToStart is a daemon that start starts.
func realDaemonToStart(t *testing.T, scheme, feed string, flags ...string) *realDaemon {
	t.Helper()
	binary := os.Getenv("CRUMBD_BIN")
	if binary == "" {
		t.Skip("CRUMBD_BIN is not set: it names the crumbd binary to test against")
	}
	if info, err := os.Stat(binary); err != nil || info.IsDir() {
		t.Fatalf("CRUMBD_BIN is %q: it must name the crumbd binary (%v)", binary, err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	d := &realDaemon{t: t, binary: binary, url: scheme + "://" + address, client: http.DefaultClient}
	d.args = append([]string{"serve", "--feed", feed, "--listen", address, "--drain", "500ms"}, flags...)
	t.Cleanup(func() {
		d.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the daemon said:\n%s", d.output.String())
		}
	})
	return d
}

func (d *realDaemon) start() {
	d.t.Helper()
	d.process = exec.Command(d.binary, d.args...)
	d.process.Stderr = &d.output
	if err := d.process.Start(); err != nil {
		d.t.Fatalf("the binary that CRUMBD_BIN names does not start: %v", err)
	}
	eventually(d.t, "the daemon is ready", func() bool {
		response, err := d.client.Get(d.url + "/readyz")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

func (d *realDaemon) stop(signal syscall.Signal) {
	if d.process != nil {
		_ = d.process.Process.Signal(signal)
		_ = d.process.Wait()
		d.process = nil
	}
}

// post applies records.
func (d *realDaemon) post(records string) {
	d.t.Helper()
	request, err := http.NewRequest(http.MethodPost, d.url+"/v1/updates", strings.NewReader(records))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	request.Header.Set("Authorization", "Bearer "+d.token)
	response, err := d.client.Do(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		d.t.Fatalf("a write was answered %d: %s", response.StatusCode, body)
	}
}

// proof is what the daemon says of its state.
func (d *realDaemon) proof() (count int, digest string) {
	d.t.Helper()
	response, err := http.Get(d.url + "/v1/status")
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	var status struct {
		Count  int
		Digest string
	}
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
		d.t.Fatal(err)
	}
	return status.Count, status.Digest
}

// writer makes random writes and knows what the state must be.
type writer struct {
	random *rand.Rand
	state  world
}

func (w *writer) records() string {
	var out strings.Builder
	for n := 1 + w.random.Intn(20); n > 0; n-- {
		key := fmt.Sprintf("%c/%d", 'a'+rune(w.random.Intn(3)), w.random.Intn(300))
		if w.random.Intn(10) == 0 {
			key += "\xff\x00\""
		}
		name := base64.StdEncoding.EncodeToString([]byte(key))
		if w.random.Intn(3) == 0 {
			delete(w.state, key)
			fmt.Fprintf(&out, `{"type":"deleted","key_base64":"%s"}`+"\n", name)
			continue
		}
		value := make([]byte, w.random.Intn(300))
		for i := range value {
			value[i] = byte(w.random.Intn(256))
		}
		switch w.random.Intn(3) {
		case 0:
			value = []byte(fmt.Sprintf(`{"n":%d.50,"n":1e2,"text":"é\n<&>"}`, w.random.Int63()))
		case 1:
			value = []byte(strings.Repeat("é\u2028\x01\"", w.random.Intn(30)))
		}
		w.state[key] = string(value)
		fmt.Fprintf(&out, `{"type":"put","key_base64":"%s","encoding":"base64","value":"%s"}`+"\n", name, base64.StdEncoding.EncodeToString(value))
	}
	return out.String()
}

// reader follows a daemon in the background and counts the snapshots.
type reader struct {
	*client
	mu        sync.Mutex
	digest    crumbd.Digest
	snapshots int
	failed    error
}

func newReader(t *testing.T, opts crumbd.Options) *reader {
	r := &reader{client: &client{t: t, known: world{}}}
	ctx, cancel := context.WithCancel(context.Background())
	r.follower = crumbd.Follow(ctx, opts)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			event, err := r.follower.Next()
			r.mu.Lock()
			if err != nil {
				r.failed = err
				r.mu.Unlock()
				return
			}
			r.digest = event.Digest
			if event.Snapshot {
				r.snapshots++
			}
			r.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

func (r *reader) now() (digest string, snapshots int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.digest.String(), r.snapshots, r.failed
}

// haveLastState waits until each reader has the state that is wanted of it, and demands that it read one snapshot.
func haveLastState(t *testing.T, readers map[string]*reader, wanted func(name string) world) {
	t.Helper()
	for name, r := range readers {
		name, r, want := name, r, wanted(name).digest().String()
		eventually(t, name+" has the last state", func() bool {
			digest, _, err := r.now()
			if err != nil {
				t.Fatalf("%s ended: %v", name, err)
			}
			return digest == want
		})
		if _, snapshots, _ := r.now(); snapshots != 1 {
			t.Errorf("%s read %d snapshots", name, snapshots)
		}
	}
}

func TestRealDaemonOverRestartsWithoutASecondSnapshot(t *testing.T) {
	root := newRealDaemon(t, "push:", "--state-dir", t.TempDir())
	replica := newRealDaemon(t, "crumbd://"+strings.TrimPrefix(root.url, "http://"))
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	w := &writer{random: rand.New(rand.NewSource(seed)), state: world{}}
	root.post(w.records())

	readers := map[string]*reader{}
	for name, opts := range map[string]crumbd.Options{
		"poll":                 {Endpoints: []string{root.url}},
		"stream":               {Endpoints: []string{root.url}, Transport: crumbd.Stream},
		"poll prefix":          {Endpoints: []string{root.url}, Prefix: []byte("b/")},
		"stream prefix":        {Endpoints: []string{root.url}, Prefix: []byte("b/"), Transport: crumbd.Stream},
		"replicas":             {Endpoints: []string{replica.url, root.url}},
		"replicas by a stream": {Endpoints: []string{replica.url, root.url}, Transport: crumbd.Stream},
	} {
		readers[name] = newReader(t, opts)
	}
	mirror := crumbd.NewMirror(crumbd.Options{Endpoints: []string{root.url}})
	var told sync.Map // What a handler knows.
	mirror.AddEventHandler(crumbd.Handler{
		OnAdd:    func(key, value []byte) { told.Store(string(key), string(value)) },
		OnUpdate: func(key, _, value []byte) { told.Store(string(key), string(value)) },
		OnDelete: func(key, _ []byte) { told.Delete(string(key)) },
	})
	runMirror(t, mirror)
	// Every reader has its state before the daemon goes away for the first time.
	eventually(t, "every reader has a state", func() bool {
		for _, r := range readers {
			if _, snapshots, _ := r.now(); snapshots == 0 {
				return false
			}
		}
		return mirror.HasSynced()
	})

	for round := 0; round < 4; round++ {
		for i := 0; i < 50; i++ {
			root.post(w.records())
		}
		switch round {
		case 0:
			root.stop(syscall.SIGTERM)
			root.start()
		case 1:
			replica.stop(syscall.SIGTERM) // Its readers go on at the root.
		case 2:
			root.stop(syscall.SIGKILL)
			root.start()
		}
	}

	if count, digest := root.proof(); count != len(w.state) || digest != w.state.digest().String() {
		t.Fatalf("the daemon has %d keys and %s, written were %d and %s", count, digest, len(w.state), w.state.digest())
	}
	part := w.state.under("b/")
	haveLastState(t, readers, func(name string) world {
		if strings.Contains(name, "prefix") {
			return part
		}
		return w.state
	})
	eventually(t, "the mirror has the last state", func() bool { return mirror.Digest() == w.state.digest() })
	eventually(t, "the handler has been told the last state", func() bool {
		known := world{}
		told.Range(func(key, value any) bool {
			known[key.(string)] = value.(string)
			return true
		})
		return known.digest() == w.state.digest()
	})
	list := mirror.List([]byte("b/"))
	if len(list) != len(part) {
		t.Errorf("%d keys are listed, want %d", len(list), len(part))
	}
	for i, key := range part.sorted() {
		if string(list[i].Key) != key || string(list[i].Value) != part[key] {
			t.Errorf("entry %d is %q", i, list[i].Key)
		}
	}
}

func TestRealDaemonThatLostItsStateTellsTheDifference(t *testing.T) {
	d := newRealDaemon(t, "push:")
	d.post(`{"type":"put","key":"a","value":1}` + "\n" + `{"type":"put","key":"b","value":2}` + "\n")
	for name, transport := range map[string]crumbd.Transport{"poll": crumbd.Poll, "stream": crumbd.Stream} {
		c := newClient(t, crumbd.Options{Endpoints: []string{d.url}, Transport: transport})
		if event := c.next(); event.Count != 2 {
			t.Fatalf("%s: %+v", name, event)
		}
		d.stop(syscall.SIGKILL)
		d.start() // Empty: a push: feed without a state directory has a new history.
		posted := false
		c.onEmpty = func() {
			if !posted {
				d.post(`{"type":"put","key":"a","value":3}` + "\n" + `{"type":"put","key":"c","value":4}` + "\n")
				posted = true
			}
		}
		event := c.next()
		if !event.Resync() || len(event.Changes) != 3 || c.known["a"] != "3" || c.known["c"] != "4" {
			t.Errorf("%s: %+v leads to %v", name, event, c.known)
		}
		d.post(`{"type":"deleted","key":"c"}` + "\n" + `{"type":"put","key":"a","value":1}` + "\n" + `{"type":"put","key":"b","value":2}` + "\n")
	}
}

// makeToken makes a token with the rights to read these prefixes and to write everything, and its line for the file.
func (d *realDaemon) makeToken(name string, prefixes ...string) (token, line string) {
	d.t.Helper()
	args := []string{"token", "--name", name, "--write", ""}
	for _, prefix := range prefixes {
		args = append(args, "--read", prefix)
	}
	command := exec.Command(d.binary, args...)
	var said bytes.Buffer
	command.Stderr = &said
	written, err := command.Output()
	if err != nil {
		d.t.Fatalf("crumbd token: %v: %s", err, said.String())
	}
	return strings.TrimSpace(said.String()), string(written)
}

// certificate writes a certificate for 127.0.0.1, which is its own authority, and its key.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "crumbd test"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(cryptorand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	writeFile(t, certFile, certPEM)
	writeFile(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pool
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Over HTTP/2, with connections that end early, and with tokens.
func TestRealDaemonOverTLSWithTokens(t *testing.T) {
	cert, key, pool := certificate(t)
	tokens := filepath.Join(t.TempDir(), "tokens.jsonl")
	d := realDaemonToStart(t, "https", "push:",
		"--tls-cert", cert, "--tls-key", key, "--tokens", tokens, "--max-connection-age", "200ms")
	d.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	var all, part string
	var lines [2]string
	d.token, lines[0] = d.makeToken("all", "")
	all = d.token
	part, lines[1] = d.makeToken("part", "a/", "b/")
	writeFile(t, tokens, []byte(lines[0]+lines[1]))
	d.start()
	w := &writer{random: rand.New(rand.NewSource(1)), state: world{}}
	d.post(w.records())

	readers := map[string]*reader{}
	for name, transport := range map[string]crumbd.Transport{"poll": crumbd.Poll, "stream": crumbd.Stream} {
		opts := crumbd.Options{Endpoints: []string{d.url}, Transport: transport, CAFile: cert, Token: all}
		readers[name] = newReader(t, opts)
		opts.Token = part
		readers[name+" of a part"] = newReader(t, opts)
	}
	for begun := time.Now(); time.Since(begun) < time.Second; { // Several times the age of a connection.
		d.post(w.records())
	}
	haveLastState(t, readers, func(name string) world {
		if strings.Contains(name, "part") {
			return w.state.under("a/", "b/")
		}
		return w.state
	})

	// Wider rights: a stream is told the difference.
	wider := strings.Replace(lines[1], `"b/"`, `"b/","c/"`, 1)
	if wider == lines[1] {
		t.Fatalf("the line of the token is %s", wider)
	}
	writeFile(t, tokens, []byte(lines[0]+wider))
	eventually(t, "the stream has all keys", func() bool {
		digest, _, err := readers["stream of a part"].now()
		if err != nil {
			t.Fatal(err)
		}
		return digest == w.state.digest().String()
	})
}

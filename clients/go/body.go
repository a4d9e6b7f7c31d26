package crumbd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// lineReader reads NDJSON line by line. Only one line is held.
type lineReader struct {
	source *bufio.Reader
	line   []byte
	max    int64
}

func newLineReader(source io.Reader, max int64) *lineReader {
	return &lineReader{source: bufio.NewReaderSize(source, 64<<10), max: max}
}

// next returns the next line that is not blank, without its line break. It is valid until the next call. With io.EOF
// it returns what came after the last line break, if anything did.
func (r *lineReader) next() ([]byte, error) {
	for {
		line, err := r.source.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			r.line = append(r.line[:0], line...)
			for errors.Is(err, bufio.ErrBufferFull) {
				if int64(len(r.line)) > r.max {
					return nil, &LimitError{"MaxLineBytes", r.max}
				}
				line, err = r.source.ReadSlice('\n')
				r.line = append(r.line, line...)
			}
			line = r.line
		}
		if int64(len(line)) > r.max {
			return nil, &LimitError{"MaxLineBytes", r.max}
		}
		if line = bytes.TrimSpace(line); len(line) > 0 || err != nil {
			return line, err
		}
	}
}

type bodyKind int

const (
	noBody bodyKind = iota
	snapshotBody
	updatesBody
	resetBody
)

// body is a whole answer: from its header record to its `end`.
type body struct {
	kind                   bodyKind
	cursor, status, reason string
	// proofs are what the header and the end say of the whole state.
	proofs [2]proof
	// entries and sum are the state of a snapshot.
	entries map[string][]byte
	sum     Digest
	updates []update
}

// update is a change as the daemon tells it.
type update struct {
	key     string
	value   []byte
	deleted bool
}

// check compares the state that the body leads to with what the body says of it.
func (b *body) check(count int, sum Digest) error {
	for _, proof := range b.proofs {
		if proof.hasCount && proof.count != uint64(count) {
			return fmt.Errorf("%w: it leads to %d keys and names %d", ErrMismatch, count, proof.count)
		}
		if proof.hasDigest && proof.digest != sum {
			return fmt.Errorf("%w: it leads to digest %s and names %s", ErrMismatch, sum, proof.digest)
		}
	}
	return nil
}

// bodyDecoder puts bodies together from records. A snapshot becomes a map as it comes in.
type bodyDecoder struct {
	parser recordParser
	hash   hasher
	// known returns the present value of a key. A snapshot shares values that have not changed with the present
	// state, so that two states need little more memory than one.
	known    func(key []byte) ([]byte, bool)
	maxBytes int64
	bytes    int64
	body     *body
}

// underWay reports whether a body has begun.
func (d *bodyDecoder) underWay() bool { return d.body != nil }

// take reads a line; it returns the body that the line completes, if it does.
func (d *bodyDecoder) take(line []byte) (*body, error) {
	if d.bytes += int64(len(line)); d.bytes > d.maxBytes {
		return nil, &LimitError{"MaxBodyBytes", d.maxBytes}
	}
	r, err := d.parser.parse(line)
	if err != nil {
		return nil, err
	}
	switch r.kind {
	case "snapshot", "breadcrumb":
		if d.body != nil {
			return nil, fmt.Errorf("a %s record came before the end of the body before", r.kind)
		}
		d.body = &body{kind: updatesBody, cursor: r.cursor, status: r.status, reason: r.reason}
		d.body.proofs[0] = r.proof
		if r.kind == "snapshot" {
			d.body.kind = snapshotBody
			d.body.entries = make(map[string][]byte, presized(r.proof))
		}
		return nil, nil
	case "reset":
		if d.body != nil {
			return nil, errors.New("a reset record came before the end of a body")
		}
		d.bytes = 0
		return &body{kind: resetBody, reason: r.reason}, nil
	case "new", "updated", "put":
		if !r.hasValue {
			return nil, fmt.Errorf("a %s record of key %q has no value", r.kind, r.key)
		}
		return nil, d.change(r, false)
	case "deleted":
		return nil, d.change(r, true)
	case "end":
		if d.body == nil {
			return nil, errors.New("an end record came without a header")
		}
		whole := d.body
		d.body, d.bytes = nil, 0
		if r.cursor != "" {
			whole.cursor = r.cursor
		}
		if whole.cursor == "" {
			return nil, errors.New("a body has no cursor")
		}
		whole.proofs[1] = r.proof
		return whole, nil
	}
	return nil, nil // A type that is new.
}

// presized is the room that a snapshot needs. What the daemon claims is believed up to a limit.
func presized(claim proof) int {
	const most = 1 << 20
	if claim.count < most {
		return int(claim.count)
	}
	return most
}

func (d *bodyDecoder) change(r record, deleted bool) error {
	if d.body == nil {
		return errors.New("a record came before the header of its body")
	}
	if !r.hasKey {
		return fmt.Errorf("a %s record has no key", r.kind)
	}
	if d.body.kind == updatesBody {
		change := update{key: string(r.key), deleted: deleted}
		if !deleted {
			change.value = clone(r.value)
		}
		d.body.updates = append(d.body.updates, change)
		return nil
	}
	if before, twice := d.body.entries[string(r.key)]; twice {
		d.body.sum = d.body.sum.Sub(d.hash.entry(r.key, before))
		delete(d.body.entries, string(r.key))
	}
	if deleted {
		return nil
	}
	value, known := d.known(r.key)
	if !known || string(value) != string(r.value) {
		value = clone(r.value)
	}
	d.body.entries[string(r.key)] = value
	d.body.sum = d.body.sum.Add(d.hash.entry(r.key, value))
	return nil
}

// clone copies; unlike append it makes an empty value of an empty value, never nil.
func clone(value []byte) []byte {
	return append(make([]byte, 0, len(value)), value...)
}

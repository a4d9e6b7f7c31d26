package crumbd

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// openStream is a stream that is being read. What it has not told yet stays with the daemon: the next body is read in
// the next Next.
type openStream struct {
	answer  *answer
	lines   *lineReader
	decoder *bodyDecoder
	rights  string
	// told: at least one body came.
	told bool
	// reset is the reason of a reset after which no body has come yet.
	reset string
}

func (f *Follower) closeStream() {
	if f.open != nil {
		f.open.answer.close()
		f.open = nil
	}
}

// readStream reads the next body of the stream, and opens it first where there is none.
func (f *Follower) readStream() (Event, bool, error) {
	if f.open == nil {
		if err := f.openStream(); err != nil {
			return Event{}, false, err
		}
	}
	for {
		line, err := f.open.lines.next()
		if err != nil {
			return Event{}, false, f.streamEnd(line, err)
		}
		whole, err := f.open.decoder.take(line)
		if err != nil {
			return Event{}, false, err
		}
		if whole == nil {
			continue
		}
		f.open.told = true
		if whole.kind != resetBody {
			f.open.reset = ""
			return f.apply(whole, f.open.rights)
		}
		f.open.reset = oneLine(whole.reason, mostExcerpt)
		gap := CursorGone
		switch whole.reason {
		case "permission-changed", "token-removed", "rights-changed":
			gap = RightsChanged
		}
		f.lose(gap)
	}
}

func (f *Follower) openStream() error {
	address := f.endpoints[f.endpoint].address("/stream")
	var query []string
	if f.cursor != "" {
		from := f.cursor
		if f.rights != "" {
			from += "~" + f.rights
		}
		query = append(query, "from="+escape(from))
	}
	if len(f.opts.Prefix) > 0 {
		query = append(query, "prefix="+escape(string(f.opts.Prefix)))
	}
	address.RawQuery = strings.Join(query, "&")
	f.asked = where(address)
	answer, err := f.requester.get(f.ctx, address, "identity")
	if err != nil {
		return continuing(err)
	}
	rights := answer.header.Get("Crumbd-Rights")
	if err := f.checkRights(rights); err != nil {
		answer.close()
		return err
	}
	f.open = &openStream{
		answer:  answer,
		lines:   newLineReader(answer.body, f.opts.MaxLineBytes),
		decoder: f.decoder(),
		rights:  rights,
	}
	return nil
}

// streamEnd says how a stream ended: between two bodies, or within one.
func (f *Follower) streamEnd(rest []byte, err error) error {
	if !errors.Is(err, io.EOF) {
		return cutOff(err)
	}
	if len(rest) > 0 || f.open.decoder.underWay() {
		return cutOff(io.ErrUnexpectedEOF)
	}
	if !f.open.told {
		return fmt.Errorf("%w before it told anything", ErrCutOff)
	}
	if f.open.reset != "" {
		return fmt.Errorf("%w after a reset: %s", ErrStreamEnded, f.open.reset)
	}
	return ErrStreamEnded
}

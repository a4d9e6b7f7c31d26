package crumbd

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// record is one line of an answer. Its slices are valid until the next line is parsed.
type record struct {
	kind   string
	key    []byte
	value  []byte
	hasKey bool
	// hasValue tells an empty value from none.
	hasValue bool
	encoding string
	cursor   string
	status   string
	reason   string
	proof    proof
}

// proof is what a daemon says of the whole state. Both parts are optional.
type proof struct {
	count     uint64
	digest    Digest
	hasCount  bool
	hasDigest bool
}

// recordParser parses lines. encoding/json checks that a line is JSON; the members are then taken here, because
// encoding/json matches names without regard to case, so that a new field could be taken for a known one, and because
// a large state has millions of lines.
type recordParser struct {
	key, value, memberName, scratch []byte
}

var errNoObject = errors.New("a record must be a JSON object")

// parse reads one line. It ignores members that it does not know.
func (p *recordParser) parse(line []byte) (record, error) {
	var out record
	if !json.Valid(line) {
		return out, fmt.Errorf("a record is not JSON: %s", excerpt(line))
	}
	at := skipSpace(line, 0)
	if line[at] != '{' {
		return out, fmt.Errorf("%w: %s", errNoObject, excerpt(line))
	}
	var rawValue []byte // As it is in the line: "encoding" may come after it.
	for at = skipSpace(line, at+1); line[at] != '}'; at = skipSpace(line, at) {
		if line[at] == ',' {
			at = skipSpace(line, at+1)
		}
		end := tokenEnd(line, at)
		name := line[at:end]
		at = skipSpace(line, skipSpace(line, end)+1) // Past the colon.
		end = tokenEnd(line, at)
		raw := line[at:end]
		at = end
		if name = p.name(name); string(name) == "value" {
			rawValue = raw
			continue
		}
		if string(raw) == "null" {
			continue
		}
		if err := p.member(&out, name, raw); err != nil {
			return out, err
		}
	}
	if rawValue == nil {
		return out, nil
	}
	return out, p.decodeValue(&out, rawValue)
}

// name returns a member's name without its quotes.
func (p *recordParser) name(raw []byte) []byte {
	text, err := unquote(p.memberName[:0], raw)
	if err != nil {
		return nil // No member that is known.
	}
	p.memberName = text
	return text
}

func (p *recordParser) text(raw []byte) (string, error) {
	text, err := unquote(p.scratch[:0], raw)
	if err != nil {
		return "", err
	}
	p.scratch = text
	return intern(text), nil
}

func (p *recordParser) member(out *record, name, raw []byte) (err error) {
	switch string(name) {
	case "type":
		out.kind, err = p.text(raw)
	case "key":
		if p.key, err = unquote(p.key[:0], raw); err == nil {
			out.key, out.hasKey = p.key, true
		}
	case "key_base64":
		if p.key, err = p.base64(p.key, raw); err == nil {
			out.key, out.hasKey = p.key, true
		}
	case "encoding":
		out.encoding, err = p.text(raw)
	case "cursor":
		out.cursor, err = p.text(raw)
	case "status":
		out.status, err = p.text(raw)
	case "reason":
		out.reason, err = p.text(raw)
	case "count":
		out.proof.count, err = strconv.ParseUint(string(raw), 10, 64)
		out.proof.hasCount = err == nil
	case "digest":
		var hex string
		if hex, err = p.text(raw); err == nil {
			out.proof.digest, err = ParseDigest(hex)
			out.proof.hasDigest = err == nil
		}
	}
	if err != nil {
		return fmt.Errorf("the member %q of a record cannot be read: %w", name, err)
	}
	return nil
}

// decodeValue finds the bytes of a value: a string's, base64's, or compact JSON.
func (p *recordParser) decodeValue(out *record, raw []byte) (err error) {
	switch out.encoding {
	case "":
		p.value = compact(p.value[:0], raw)
	case "utf8":
		p.value, err = unquote(p.value[:0], raw)
	case "base64":
		p.value, err = p.base64(p.value, raw)
	default:
		err = fmt.Errorf("the encoding %q is unknown", out.encoding)
	}
	if err != nil {
		return fmt.Errorf("the value of key %q cannot be read: %w", out.key, err)
	}
	out.value, out.hasValue = p.value, true
	return nil
}

func (p *recordParser) base64(into, raw []byte) ([]byte, error) {
	text, err := unquote(p.scratch[:0], raw)
	if err != nil {
		return into, err
	}
	p.scratch = text
	if need := base64.StdEncoding.DecodedLen(len(text)); cap(into) < need {
		into = make([]byte, need)
	}
	n, err := base64.StdEncoding.Decode(into[:cap(into)], text)
	return into[:n], err
}

// intern returns the text without an allocation for each record where it is one of the usual words.
func intern(text []byte) string {
	switch string(text) {
	case "new":
		return "new"
	case "updated":
		return "updated"
	case "put":
		return "put"
	case "deleted":
		return "deleted"
	case "utf8":
		return "utf8"
	case "base64":
		return "base64"
	}
	return string(text)
}

// skipSpace returns the position of the first byte that is no whitespace. The input is valid JSON, here and below.
func skipSpace(in []byte, at int) int {
	for at < len(in) && (in[at] == ' ' || in[at] == '\t' || in[at] == '\n' || in[at] == '\r') {
		at++
	}
	return at
}

// tokenEnd returns the end of the JSON value that begins here.
func tokenEnd(in []byte, at int) int {
	switch in[at] {
	case '"':
		return stringEnd(in, at)
	case '{', '[':
		depth := 0
		for {
			switch in[at] {
			case '"':
				at = stringEnd(in, at)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return at + 1
				}
			}
			at++
		}
	}
	for at < len(in) {
		switch in[at] {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			return at
		}
		at++
	}
	return at
}

func stringEnd(in []byte, at int) int {
	for at++; in[at] != '"'; at++ {
		if in[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// compact appends JSON without its insignificant whitespace.
func compact(into, raw []byte) []byte {
	for at := 0; at < len(raw); at++ {
		switch raw[at] {
		case ' ', '\t', '\n', '\r':
		case '"':
			end := stringEnd(raw, at)
			into = append(into, raw[at:end]...)
			at = end - 1
		default:
			into = append(into, raw[at])
		}
	}
	return into
}

// unquote appends the bytes of a JSON string.
func unquote(into, raw []byte) ([]byte, error) {
	if raw[0] != '"' {
		return into, fmt.Errorf("a string is expected, not %s", excerpt(raw))
	}
	raw = raw[1 : len(raw)-1]
	for at := 0; at < len(raw); {
		if raw[at] != '\\' {
			begin := at
			for at < len(raw) && raw[at] != '\\' {
				at++
			}
			into = append(into, raw[begin:at]...)
			continue
		}
		at += 2
		switch escaped := raw[at-1]; escaped {
		case 'b':
			into = append(into, '\b')
		case 'f':
			into = append(into, '\f')
		case 'n':
			into = append(into, '\n')
		case 'r':
			into = append(into, '\r')
		case 't':
			into = append(into, '\t')
		case 'u':
			char := hex4(raw[at:])
			at += 4
			if utf16.IsSurrogate(char) {
				pair := rune(utf8.RuneError)
				if at+6 <= len(raw) && raw[at] == '\\' && raw[at+1] == 'u' {
					pair = utf16.DecodeRune(char, hex4(raw[at+2:]))
				}
				if pair == utf8.RuneError {
					return into, fmt.Errorf("the string has half of a surrogate pair: \\u%04x", char)
				}
				char = pair
				at += 6
			}
			into = utf8.AppendRune(into, char)
		default:
			into = append(into, escaped)
		}
	}
	return into, nil
}

func hex4(in []byte) rune {
	char, err := strconv.ParseUint(string(in[:4]), 16, 16)
	if err != nil {
		return utf8.RuneError // Not in valid JSON.
	}
	return rune(char)
}

// excerpt is the beginning of what could not be read, for an error.
func excerpt(in []byte) string {
	const most = 80
	if len(in) > most {
		return fmt.Sprintf("%q…", in[:most])
	}
	return fmt.Sprintf("%q", in)
}

package crumbd

import (
	"bytes"
	"encoding/json"
	"testing"
)

func FuzzRecordsAreReadAsJSON(f *testing.F) {
	for _, seed := range []string{
		`{"type":"new","key":"a","value":"b","encoding":"utf8"}`,
		`{"type":"new","key":"\ud83d\ude00\n","value":{"a":[1,"}",{"b":null}], "c" : 1.50}}`,
		`{ "type" : "end" , "count" : 12, "digest":"1d6c6e1f1be49fc904ca7469780f5b9a" , "x":[[]] }`,
		`{"type":"deleted","key_base64":"//8="}`, `{}`, `[]`, `1`, `{"key":"\ud800"}`, `{"count":-1}`, `{"value":""}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		line = bytes.TrimSpace(line)
		r, err := new(recordParser).parse(line)
		if err != nil {
			return
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(line, &members); err != nil {
			t.Fatalf("%q was read as a record: %v", line, err)
		}
		if raw, ok := members["type"]; ok && string(raw) != "null" && bytes.Count(line, []byte("type")) == 1 {
			var want string
			if err := json.Unmarshal(raw, &want); err != nil || bytes.ContainsRune([]byte(want), '\uFFFD') {
				return
			}
			if r.kind != want {
				t.Errorf("%q has type %q, want %q", line, r.kind, want)
			}
		}
		if raw, ok := members["value"]; ok && members["encoding"] == nil && !bytes.Contains(line, []byte("\\u")) &&
			bytes.Count(line, []byte("value")) == 1 && bytes.Count(line, []byte("encoding")) == 0 {
			var want bytes.Buffer
			if err := json.Compact(&want, raw); err != nil {
				t.Fatal(err)
			}
			if !r.hasValue || !bytes.Equal(r.value, want.Bytes()) {
				t.Errorf("%q has value %q, want %q", line, r.value, want.Bytes())
			}
		}
	})
}

func TestWhatIsNoRecordIsRefused(t *testing.T) {
	for _, line := range []string{
		``, `{`, `[]`, `"x"`, `{"type":1}`, `{"key":{}}`, `{"key_base64":"*"}`, `{"count":-1}`, `{"digest":"00"}`,
		`{"value":1,"encoding":"utf8"}`, `{"value":"x","encoding":"rot13"}`, `{"value":"*","encoding":"base64"}`,
		`{"value":"\ud800","encoding":"utf8"}`, `{"value":"\ud800\u0041","encoding":"utf8"}`,
	} {
		if r, err := new(recordParser).parse([]byte(line)); err == nil {
			t.Errorf("%s was read as %+v", line, r)
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	line := []byte(`{"type":"new","key":"agents/000001","value":"{\"id\":1,\"name\":\"agent\",\"labels\":{\"zone\":\"a\"}}","encoding":"utf8","revision":17}`)
	d := &bodyDecoder{known: func([]byte) ([]byte, bool) { return nil, false }, maxBytes: 1 << 60}
	if _, err := d.take([]byte(`{"type":"snapshot"}`)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		if _, err := d.take(line); err != nil {
			b.Fatal(err)
		}
	}
}

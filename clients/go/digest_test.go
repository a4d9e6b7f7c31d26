package crumbd

import (
	"bufio"
	"fmt"
	"os"
	"testing"
)

func TestXXH3MatchesTheReferenceForEveryLengthClass(t *testing.T) {
	file, err := os.Open("testdata/xxh3_128.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	input := make([]byte, 100_003)
	for i := range input {
		input[i] = byte((i*131 + 7) % 251)
	}
	seen := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var length int
		var want string
		if n, _ := fmt.Sscanf(lines.Text(), "%d %s", &length, &want); n != 2 {
			continue
		}
		seen++
		if got := xxh3(input[:length]).String(); got != want {
			t.Errorf("length %d: %s, want %s", length, got, want)
		}
	}
	if seen < 310 {
		t.Errorf("only %d vectors were read", seen)
	}
}

func TestDigestOfAStateIsThatOfADaemon(t *testing.T) {
	state := EntryDigest([]byte("a"), []byte(`hi "x"`)).Add(EntryDigest([]byte("b"), []byte(`{"a":1.50}`)))
	const want = "1d6c6e1f1be49fc904ca7469780f5b9a" // Told by a daemon that holds these two keys.
	if state.String() != want {
		t.Errorf("%s, want %s", state, want)
	}
	parsed, err := ParseDigest(want)
	if err != nil || parsed != state {
		t.Errorf("parsed %s, %v", parsed, err)
	}
	empty := state.Sub(EntryDigest([]byte("b"), []byte(`{"a":1.50}`))).Sub(EntryDigest([]byte("a"), []byte(`hi "x"`)))
	if empty != (Digest{}) {
		t.Errorf("the empty state has digest %s", empty)
	}
	for _, text := range []string{"", "00", "zz", want + "00"} {
		if _, err := ParseDigest(text); err == nil {
			t.Errorf("%q was taken for a digest", text)
		}
	}
}

func BenchmarkEntryDigest(b *testing.B) {
	for _, size := range []int{64, 1024, 65536} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var h hasher
			value := make([]byte, size)
			b.SetBytes(int64(size))
			for i := 0; i < b.N; i++ {
				h.entry([]byte("agents/0001"), value)
			}
		})
	}
}

package crumbd

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// Digest is the 128-bit fingerprint of a state: the sum modulo 2^128 of the fingerprints of its entries. It does not
// depend on their order. Two states are equal exactly when their digests are. The zero Digest is that of the empty
// state. Digests can be compared with ==.
type Digest struct{ hi, lo uint64 }

// EntryDigest returns the fingerprint of one entry.
func EntryDigest(key, value []byte) Digest {
	return new(hasher).entry(key, value)
}

// Add returns the digest of a state to which an entry, or all entries of another state, were added.
func (d Digest) Add(other Digest) Digest {
	lo, carry := bits.Add64(d.lo, other.lo, 0)
	hi, _ := bits.Add64(d.hi, other.hi, carry)
	return Digest{hi: hi, lo: lo}
}

// Sub returns the digest of a state from which an entry was removed.
func (d Digest) Sub(other Digest) Digest {
	lo, borrow := bits.Sub64(d.lo, other.lo, 0)
	hi, _ := bits.Sub64(d.hi, other.hi, borrow)
	return Digest{hi: hi, lo: lo}
}

// String returns the digest as the daemon writes it: 32 lowercase hex digits.
func (d Digest) String() string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], d.hi)
	binary.BigEndian.PutUint64(raw[8:], d.lo)
	return hex.EncodeToString(raw[:])
}

// ParseDigest reads 32 hex digits.
func ParseDigest(text string) (Digest, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 16 {
		return Digest{}, fmt.Errorf("%q is no digest: 32 hex digits are expected", text)
	}
	return Digest{hi: binary.BigEndian.Uint64(raw[:8]), lo: binary.BigEndian.Uint64(raw[8:])}, nil
}

// hasher makes the fingerprints of entries. It keeps its buffer from one to the next.
type hasher struct{ buffer []byte }

func (h *hasher) entry(key, value []byte) Digest {
	h.buffer = binary.LittleEndian.AppendUint32(h.buffer[:0], uint32(len(key)))
	h.buffer = append(h.buffer, key...)
	h.buffer = append(h.buffer, value...)
	return xxh3(h.buffer)
}

package crumbd

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// XXH3 with 128 bits and seed 0, which the digest of a state is made of. Each length class of the algorithm is a
// function here, in order of length.

const (
	prime32x1 = 0x9E3779B1
	prime32x2 = 0x85EBCA77
	prime32x3 = 0xC2B2AE3D
	prime64x1 = 0x9E3779B185EBCA87
	prime64x2 = 0xC2B2AE3D27D4EB4F
	prime64x3 = 0x165667B19E3779F9
	prime64x4 = 0x85EBCA77C2B2AE63
	prime64x5 = 0x27D4EB2F165667C5
	primeMix1 = 0x165667919E3779F9
	primeMix2 = 0x9FB21C651E98DF25

	stripeBytes     = 64
	stripesPerBlock = (secretBytes - stripeBytes) / 8
	blockBytes      = stripeBytes * stripesPerBlock
	secretBytes     = 192
)

// secret is the default secret of XXH3.
var secret = func() [secretBytes]byte {
	var out [secretBytes]byte
	const text = "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f" +
		"cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c" +
		"3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8" +
		"a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364" +
		"eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e" +
		"2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
	if n, err := hex.Decode(out[:], []byte(text)); err != nil || n != secretBytes {
		panic("the secret of XXH3 is not 192 bytes") // A constant of this file.
	}
	return out
}()

func xxh3(in []byte) Digest {
	switch n := len(in); {
	case n > 240:
		return xxh3Long(in)
	case n > 128:
		return xxh3To240(in)
	case n > 16:
		return xxh3To128(in)
	case n > 8:
		return xxh3To16(in)
	case n >= 4:
		return xxh3To8(in)
	case n > 0:
		return xxh3To3(in)
	default:
		return Digest{
			hi: avalanche64(secret64(80) ^ secret64(88)),
			lo: avalanche64(secret64(64) ^ secret64(72)),
		}
	}
}

func xxh3To3(in []byte) Digest {
	n := len(in)
	lo := uint32(in[0])<<16 | uint32(in[n>>1])<<24 | uint32(in[n-1]) | uint32(n)<<8
	hi := bits.RotateLeft32(bits.ReverseBytes32(lo), 13)
	return Digest{
		hi: avalanche64(uint64(hi ^ secret32(8) ^ secret32(12))),
		lo: avalanche64(uint64(lo ^ secret32(0) ^ secret32(4))),
	}
}

func xxh3To8(in []byte) Digest {
	n := len(in)
	first, last := binary.LittleEndian.Uint32(in), binary.LittleEndian.Uint32(in[n-4:])
	keyed := (uint64(first) | uint64(last)<<32) ^ secret64(16) ^ secret64(24)
	hi, lo := bits.Mul64(keyed, prime64x1+uint64(n)<<2)
	hi += lo << 1
	lo ^= hi >> 3
	lo ^= lo >> 35
	lo *= primeMix2
	lo ^= lo >> 28
	return Digest{hi: avalanche(hi), lo: lo}
}

func xxh3To16(in []byte) Digest {
	n := len(in)
	first, last := read64(in), read64(in[n-8:])
	hi, lo := bits.Mul64(first^last^secret64(32)^secret64(40), prime64x1)
	lo += uint64(n-1) << 54
	last ^= secret64(48) ^ secret64(56)
	hi += last + uint64(uint32(last))*(prime32x2-1)
	lo ^= bits.ReverseBytes64(hi)
	outHi, outLo := bits.Mul64(lo, prime64x2)
	outHi += hi * prime64x2
	return Digest{hi: avalanche(outHi), lo: avalanche(outLo)}
}

func xxh3To128(in []byte) Digest {
	n := len(in)
	acc := Digest{lo: uint64(n) * prime64x1}
	for i := (n - 1) / 32; i >= 0; i-- {
		acc = mix32(acc, in[16*i:], in[n-16*(i+1):], secret[32*i:])
	}
	return finish(acc, n)
}

func xxh3To240(in []byte) Digest {
	n := len(in)
	acc := Digest{lo: uint64(n) * prime64x1}
	for i := 0; i < 128; i += 32 {
		acc = mix32(acc, in[i:], in[i+16:], secret[i:])
	}
	acc = Digest{hi: avalanche(acc.hi), lo: avalanche(acc.lo)}
	for i := 128; i+32 <= n; i += 32 {
		acc = mix32(acc, in[i:], in[i+16:], secret[i-128+3:])
	}
	return finish(mix32(acc, in[n-16:], in[n-32:], secret[103:]), n)
}

func xxh3Long(in []byte) Digest {
	n := len(in)
	acc := [8]uint64{prime32x3, prime64x1, prime64x2, prime64x3, prime64x4, prime32x2, prime64x5, prime32x1}
	rest := in
	for ; len(rest) > blockBytes; rest = rest[blockBytes:] {
		for i := 0; i < stripesPerBlock; i++ {
			accumulate(&acc, rest[i*stripeBytes:], secret[i*8:])
		}
		for i := range acc {
			acc[i] = (acc[i] ^ acc[i]>>47 ^ secret64(secretBytes-stripeBytes+8*i)) * prime32x1
		}
	}
	for i := 0; i < (len(rest)-1)/stripeBytes; i++ {
		accumulate(&acc, rest[i*stripeBytes:], secret[i*8:])
	}
	accumulate(&acc, in[n-stripeBytes:], secret[secretBytes-stripeBytes-7:])
	return Digest{
		hi: merge(&acc, secret[secretBytes-stripeBytes-11:], ^(uint64(n) * prime64x2)),
		lo: merge(&acc, secret[11:], uint64(n)*prime64x1),
	}
}

// accumulate takes one stripe into the accumulators.
func accumulate(acc *[8]uint64, in, secret []byte) {
	in, secret = in[:stripeBytes], secret[:stripeBytes]
	for i := range acc {
		value := read64(in[8*i:])
		keyed := value ^ read64(secret[8*i:])
		acc[i^1] += value
		acc[i] += uint64(uint32(keyed)) * (keyed >> 32)
	}
}

func merge(acc *[8]uint64, secret []byte, start uint64) uint64 {
	for i := 0; i < 8; i += 2 {
		start += fold(acc[i]^read64(secret[8*i:]), acc[i+1]^read64(secret[8*i+8:]))
	}
	return avalanche(start)
}

func mix32(acc Digest, a, b, secret []byte) Digest {
	acc.lo += mix16(a, secret)
	acc.lo ^= read64(b) + read64(b[8:])
	acc.hi += mix16(b, secret[16:])
	acc.hi ^= read64(a) + read64(a[8:])
	return acc
}

func mix16(in, secret []byte) uint64 {
	return fold(read64(in)^read64(secret), read64(in[8:])^read64(secret[8:]))
}

func finish(acc Digest, n int) Digest {
	return Digest{
		hi: -avalanche(acc.lo*prime64x1 + acc.hi*prime64x4 + uint64(n)*prime64x2),
		lo: avalanche(acc.lo + acc.hi),
	}
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func avalanche(h uint64) uint64 {
	h ^= h >> 37
	h *= primeMix1
	return h ^ h>>32
}

func avalanche64(h uint64) uint64 {
	h ^= h >> 33
	h *= prime64x2
	h ^= h >> 29
	h *= prime64x3
	return h ^ h>>32
}

func read64(in []byte) uint64    { return binary.LittleEndian.Uint64(in) }
func secret64(offset int) uint64 { return binary.LittleEndian.Uint64(secret[offset:]) }
func secret32(offset int) uint32 { return binary.LittleEndian.Uint32(secret[offset:]) }

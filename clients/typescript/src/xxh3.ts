/*
 * XXH3-128 with seed 0, in 32-bit arithmetic.
 *
 * BigInt allocates for each intermediate result, which makes it far slower. Here a 64-bit number is two unsigned 32-bit
 * ones, `…Low` and `…High`. A function whose result has 64 or 128 bits leaves it in `r0` to `r3`, lowest bits first.
 */

/** The default secret of XXH3. */
const SECRET = fromHex(
  "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221" +
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8" +
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb" +
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e",
);

const SECRET_LENGTH = 192;
const STRIPE_LENGTH = 64;
const STRIPES_PER_BLOCK = (SECRET_LENGTH - STRIPE_LENGTH) / 8;
const BLOCK_LENGTH = STRIPE_LENGTH * STRIPES_PER_BLOCK;

const P32_1 = 0x9e3779b1;
const P32_2 = 0x85ebca77;
const P32_3 = 0xc2b2ae3d;
const P64_1_LOW = 0x85ebca87;
const P64_1_HIGH = 0x9e3779b1;
const P64_2_LOW = 0x27d4eb4f;
const P64_2_HIGH = 0xc2b2ae3d;
const P64_3_LOW = 0x9e3779f9;
const P64_3_HIGH = 0x165667b1;
const P64_4_LOW = 0xc2b2ae63;
const P64_4_HIGH = 0x85ebca77;
const P64_5_LOW = 0x165667c5;
const P64_5_HIGH = 0x27d4eb2f;
const MIX_1_LOW = 0x9e3779f9;
const MIX_1_HIGH = 0x16566791;
const MIX_2_LOW = 0x1e98df25;
const MIX_2_HIGH = 0x9fb21c65;
const TWO_32 = 0x1_0000_0000;

let r0 = 0;
let r1 = 0;
let r2 = 0;
let r3 = 0;

/** The hash of the first `length` bytes, as four 32-bit numbers in `out`, lowest bits first. */
export function xxh3_128(input: DataView, length: number, out: Uint32Array): void {
  if (length > 240) hashLong(input, length);
  else if (length > 128) hash129To240(input, length);
  else if (length > 16) hash17To128(input, length);
  else if (length > 8) hash9To16(input, length);
  else if (length > 3) hash4To8(input, length);
  else if (length > 0) hash1To3(input, length);
  else hashEmpty();
  out[0] = r0;
  out[1] = r1;
  out[2] = r2;
  out[3] = r3;
}

function hashEmpty(): void {
  avalanche64(read(SECRET, 80) ^ read(SECRET, 88), read(SECRET, 84) ^ read(SECRET, 92));
  const upperLow = r0;
  const upperHigh = r1;
  avalanche64(read(SECRET, 64) ^ read(SECRET, 72), read(SECRET, 68) ^ read(SECRET, 76));
  r2 = upperLow;
  r3 = upperHigh;
}

function hash1To3(input: DataView, length: number): void {
  const first = input.getUint8(0);
  const middle = input.getUint8(length >> 1);
  const last = input.getUint8(length - 1);
  const combined = (first << 16) | (middle << 24) | last | (length << 8);
  const swapped = swap32(combined);
  const rotated = (swapped << 13) | (swapped >>> 19);
  avalanche64(rotated ^ read(SECRET, 8) ^ read(SECRET, 12), 0);
  const upperLow = r0;
  const upperHigh = r1;
  avalanche64(combined ^ read(SECRET, 0) ^ read(SECRET, 4), 0);
  r2 = upperLow;
  r3 = upperHigh;
}

function hash4To8(input: DataView, length: number): void {
  const keyedLow = (read(input, 0) ^ read(SECRET, 16) ^ read(SECRET, 24)) >>> 0;
  const keyedHigh = (read(input, length - 4) ^ read(SECRET, 20) ^ read(SECRET, 28)) >>> 0;
  multiply128(keyedLow, keyedHigh, P64_1_LOW + (length << 2), P64_1_HIGH);
  add64(r2, r3, r0 << 1, (r1 << 1) | (r0 >>> 31));
  r0 ^= (r2 >>> 3) | (r3 << 29);
  r1 ^= r3 >>> 3;
  // xorshift by 35
  r0 ^= r1 >>> 3;
  const upperLow = r2;
  const upperHigh = r3;
  multiply64(r0 >>> 0, r1 >>> 0, MIX_2_LOW, MIX_2_HIGH);
  const low = r0 ^ ((r0 >>> 28) | (r1 << 4));
  const high = r1 ^ (r1 >>> 28);
  avalanche3(upperLow, upperHigh);
  put128(low, high, r0, r1);
}

function hash9To16(input: DataView, length: number): void {
  const lowLow = read(input, 0);
  const lowHigh = read(input, 4);
  let highLow = read(input, length - 8);
  let highHigh = read(input, length - 4);
  multiply128(
    (lowLow ^ highLow ^ read(SECRET, 32) ^ read(SECRET, 40)) >>> 0,
    (lowHigh ^ highHigh ^ read(SECRET, 36) ^ read(SECRET, 44)) >>> 0,
    P64_1_LOW,
    P64_1_HIGH,
  );
  const mLow = r0;
  const mHigh = (r1 + ((length - 1) << 22)) >>> 0;
  let upperLow = r2;
  let upperHigh = r3;
  highLow = (highLow ^ read(SECRET, 48) ^ read(SECRET, 56)) >>> 0;
  highHigh = (highHigh ^ read(SECRET, 52) ^ read(SECRET, 60)) >>> 0;
  add64(upperLow, upperHigh, highLow, highHigh);
  upperLow = r2;
  upperHigh = r3;
  const productLow = Math.imul(highLow, P32_2 - 1) >>> 0;
  add64(upperLow, upperHigh, productLow, upperProduct(highLow, P32_2 - 1, productLow));
  upperLow = r2;
  upperHigh = r3;
  multiply128((mLow ^ swap32(upperHigh)) >>> 0, (mHigh ^ swap32(upperLow)) >>> 0, P64_2_LOW, P64_2_HIGH);
  const low = r0;
  const high = r1;
  const hLow = r2;
  const hHigh = r3;
  multiply64(upperLow, upperHigh, P64_2_LOW, P64_2_HIGH);
  add64(hLow, hHigh, r0, r1);
  finish(low, high, r2, r3);
}

/** The accumulators of inputs up to 240 bytes: two numbers of 64 bits. */
const pair = new Uint32Array(4);

function hash17To128(input: DataView, length: number): void {
  startPair(length);
  if (length > 96) mix32(input, 48, length - 64, 96);
  if (length > 64) mix32(input, 32, length - 48, 64);
  if (length > 32) mix32(input, 16, length - 32, 32);
  mix32(input, 0, length - 16, 0);
  finishPair(length);
}

function hash129To240(input: DataView, length: number): void {
  startPair(length);
  for (let i = 0; i < 128; i += 32) mix32(input, i, i + 16, i);
  for (let i = 0; i < 4; i += 2) {
    avalanche3(pair[i]!, pair[i + 1]!);
    pair[i] = r0;
    pair[i + 1] = r1;
  }
  for (let i = 160; i <= length; i += 32) mix32(input, i - 32, i - 16, 3 + i - 160);
  mix32(input, length - 16, length - 32, 136 - 17 - 16);
  finishPair(length);
}

function startPair(length: number): void {
  multiply64(length, 0, P64_1_LOW, P64_1_HIGH);
  pair[0] = r0;
  pair[1] = r1;
  pair[2] = 0;
  pair[3] = 0;
}

function mix32(input: DataView, first: number, second: number, secret: number): void {
  mixInto(0, input, first, second, secret);
  mixInto(2, input, second, first, secret + 16);
}

function mixInto(at: number, input: DataView, mixed: number, added: number, secret: number): void {
  multiply128(
    (read(input, mixed) ^ read(SECRET, secret)) >>> 0,
    (read(input, mixed + 4) ^ read(SECRET, secret + 4)) >>> 0,
    (read(input, mixed + 8) ^ read(SECRET, secret + 8)) >>> 0,
    (read(input, mixed + 12) ^ read(SECRET, secret + 12)) >>> 0,
  );
  const foldedLow = r0 ^ r2;
  const foldedHigh = r1 ^ r3;
  add64(read(input, added), read(input, added + 4), read(input, added + 8), read(input, added + 12));
  const otherLow = r2;
  const otherHigh = r3;
  add64(pair[at]!, pair[at + 1]!, foldedLow, foldedHigh);
  pair[at] = r2 ^ otherLow;
  pair[at + 1] = r3 ^ otherHigh;
}

function finishPair(length: number): void {
  const [aLow, aHigh, bLow, bHigh] = [pair[0]!, pair[1]!, pair[2]!, pair[3]!];
  multiply64(aLow, aHigh, P64_1_LOW, P64_1_HIGH);
  const partLow = r0;
  const partHigh = r1;
  multiply64(bLow, bHigh, P64_4_LOW, P64_4_HIGH);
  add64(partLow, partHigh, r0, r1);
  const sumLow = r2;
  const sumHigh = r3;
  multiply64(length, 0, P64_2_LOW, P64_2_HIGH);
  add64(sumLow, sumHigh, r0, r1);
  avalanche3(r2, r3);
  add64(~r0, ~r1, 1, 0); // the negative
  const upperLow = r2;
  const upperHigh = r3;
  add64(aLow, aHigh, bLow, bHigh);
  avalanche3(r2, r3);
  r2 = upperLow;
  r3 = upperHigh;
}

/** The accumulators of longer inputs: eight numbers of 64 bits. */
const lanes = new Uint32Array(16);

const FIRST_LANES = [
  [P32_3, 0, P64_1_LOW, P64_1_HIGH, P64_2_LOW, P64_2_HIGH, P64_3_LOW, P64_3_HIGH],
  [P64_4_LOW, P64_4_HIGH, P32_2, 0, P64_5_LOW, P64_5_HIGH, P32_1, 0],
].flat();

function hashLong(input: DataView, length: number): void {
  lanes.set(FIRST_LANES);
  const fullBlocks = Math.floor((length - 1) / BLOCK_LENGTH);
  for (let block = 0; block < fullBlocks; block++) {
    for (let stripe = 0; stripe < STRIPES_PER_BLOCK; stripe++) {
      accumulate(input, block * BLOCK_LENGTH + stripe * STRIPE_LENGTH, stripe * 8);
    }
    scramble();
  }
  const rest = fullBlocks * BLOCK_LENGTH;
  const stripes = Math.floor((length - 1 - rest) / STRIPE_LENGTH);
  for (let stripe = 0; stripe < stripes; stripe++) accumulate(input, rest + stripe * STRIPE_LENGTH, stripe * 8);
  accumulate(input, length - STRIPE_LENGTH, SECRET_LENGTH - STRIPE_LENGTH - 7);

  const lengthHigh = Math.floor(length / TWO_32);
  multiply64(length >>> 0, lengthHigh, P64_2_LOW, P64_2_HIGH);
  mergeLanes(SECRET_LENGTH - STRIPE_LENGTH - 11, ~r0, ~r1);
  const upperLow = r0;
  const upperHigh = r1;
  multiply64(length >>> 0, lengthHigh, P64_1_LOW, P64_1_HIGH);
  mergeLanes(11, r0, r1);
  r2 = upperLow;
  r3 = upperHigh;
}

function accumulate(input: DataView, at: number, secret: number): void {
  for (let lane = 0; lane < 16; lane += 2) {
    const dataLow = input.getUint32(at + lane * 4, true);
    const dataHigh = input.getUint32(at + lane * 4 + 4, true);
    const keyLow = (dataLow ^ SECRET.getUint32(secret + lane * 4, true)) >>> 0;
    const keyHigh = (dataHigh ^ SECRET.getUint32(secret + lane * 4 + 4, true)) >>> 0;
    const productLow = Math.imul(keyLow, keyHigh) >>> 0;
    const low = lanes[lane]! + productLow;
    const carry = low >= TWO_32 ? 1 : 0;
    lanes[lane] = low;
    lanes[lane + 1] = lanes[lane + 1]! + upperProduct(keyLow, keyHigh, productLow) + carry;
    const other = lane ^ 2;
    const otherLow = lanes[other]! + dataLow;
    const otherCarry = otherLow >= TWO_32 ? 1 : 0;
    lanes[other] = otherLow;
    lanes[other + 1] = lanes[other + 1]! + dataHigh + otherCarry;
  }
}

function scramble(): void {
  const secret = SECRET_LENGTH - STRIPE_LENGTH;
  for (let lane = 0; lane < 16; lane += 2) {
    const low = lanes[lane]!;
    const high = lanes[lane + 1]!;
    // xorshift by 47
    const mixedLow = (low ^ (high >>> 15) ^ read(SECRET, secret + lane * 4)) >>> 0;
    const mixedHigh = (high ^ read(SECRET, secret + lane * 4 + 4)) >>> 0;
    multiply64(mixedLow, mixedHigh, P32_1, 0);
    lanes[lane] = r0;
    lanes[lane + 1] = r1;
  }
}

function mergeLanes(secret: number, startLow: number, startHigh: number): void {
  let low = startLow >>> 0;
  let high = startHigh >>> 0;
  for (let i = 0; i < 4; i++) {
    const at = secret + 16 * i;
    multiply128(
      (lanes[4 * i]! ^ read(SECRET, at)) >>> 0,
      (lanes[4 * i + 1]! ^ read(SECRET, at + 4)) >>> 0,
      (lanes[4 * i + 2]! ^ read(SECRET, at + 8)) >>> 0,
      (lanes[4 * i + 3]! ^ read(SECRET, at + 12)) >>> 0,
    );
    add64(low, high, r0 ^ r2, r1 ^ r3);
    low = r2;
    high = r3;
  }
  avalanche3(low, high);
}

/** Both halves through the last step of the hash. */
function finish(low: number, high: number, upperLow: number, upperHigh: number): void {
  avalanche3(upperLow, upperHigh);
  const hashedLow = r0;
  const hashedHigh = r1;
  avalanche3(low, high);
  r2 = hashedLow;
  r3 = hashedHigh;
}

/** The last step of XXH3. */
function avalanche3(low: number, high: number): void {
  multiply64((low ^ (high >>> 5)) >>> 0, high >>> 0, MIX_1_LOW, MIX_1_HIGH); // after a xorshift by 37
  r0 = (r0 ^ r1) >>> 0; // xorshift by 32
}

/** The last step of XXH64. */
function avalanche64(low: number, high: number): void {
  multiply64((low ^ (high >>> 1)) >>> 0, high >>> 0, P64_2_LOW, P64_2_HIGH); // after a xorshift by 33
  const shiftedLow = (r0 ^ ((r0 >>> 29) | (r1 << 3))) >>> 0;
  const shiftedHigh = (r1 ^ (r1 >>> 29)) >>> 0;
  multiply64(shiftedLow, shiftedHigh, P64_3_LOW, P64_3_HIGH);
  r0 = (r0 ^ r1) >>> 0;
}

/** The sum of two 64-bit numbers, in `r2` and `r3`. */
function add64(aLow: number, aHigh: number, bLow: number, bHigh: number): void {
  const low = (aLow >>> 0) + (bLow >>> 0);
  r2 = low >>> 0;
  r3 = ((aHigh >>> 0) + (bHigh >>> 0) + (low >= TWO_32 ? 1 : 0)) >>> 0;
}

/** The low 64 bits of a product, in `r0` and `r1`. All arguments are unsigned. */
function multiply64(aLow: number, aHigh: number, bLow: number, bHigh: number): void {
  r0 = Math.imul(aLow, bLow) >>> 0;
  r1 = (upperProduct(aLow, bLow, r0) + Math.imul(aLow, bHigh) + Math.imul(aHigh, bLow)) >>> 0;
}

/** All 128 bits of a product, in `r0` to `r3`. All arguments are unsigned. */
function multiply128(aLow: number, aHigh: number, bLow: number, bHigh: number): void {
  const low = Math.imul(aLow, bLow) >>> 0;
  const crossA = Math.imul(aLow, bHigh) >>> 0;
  const crossB = Math.imul(aHigh, bLow) >>> 0;
  const top = Math.imul(aHigh, bHigh) >>> 0;
  const second = upperProduct(aLow, bLow, low) + crossA + crossB;
  const secondBits = second >>> 0;
  const third =
    top + upperProduct(aLow, bHigh, crossA) + upperProduct(aHigh, bLow, crossB) + (second - secondBits) / TWO_32;
  const thirdBits = third >>> 0;
  r0 = low;
  r1 = secondBits;
  r2 = thirdBits;
  r3 = (upperProduct(aHigh, bHigh, top) + (third - thirdBits) / TWO_32) >>> 0;
}

/**
 * The high 32 bits of a product of two unsigned 32-bit numbers, of which the low 32 bits are known.
 *
 * A double holds the product with an error of at most 2^10. So the difference is off by less than 2^12, which is far
 * below half of the 2^32 that it is divided by.
 */
function upperProduct(a: number, b: number, low: number): number {
  return ((a * b - low) / TWO_32 + 0.5) >>> 0;
}

function put128(low: number, high: number, upperLow: number, upperHigh: number): void {
  r0 = low >>> 0;
  r1 = high >>> 0;
  r2 = upperLow >>> 0;
  r3 = upperHigh >>> 0;
}

function read(view: DataView, at: number): number {
  return view.getUint32(at, true);
}

function swap32(number: number): number {
  return ((number << 24) | ((number << 8) & 0xff0000) | ((number >>> 8) & 0xff00) | (number >>> 24)) >>> 0;
}

function fromHex(hex: string): DataView {
  const bytes = Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  return new DataView(bytes.buffer);
}

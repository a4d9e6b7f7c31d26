import type { Value } from "./value.js";
import { xxh3_128 } from "./xxh3.js";

/**
 * The digest of a state: the sum modulo 2^128 of the hashes of its entries. So a change costs the hash of its key's old
 * entry and of the new one, whatever the size of the state.
 */
export class Digest {
  /** 128 bits, lowest first. */
  readonly #sum = new Uint32Array(4);
  /** What `toString` gave, until the sum changes. */
  #text: string | undefined;

  /** Counts an entry in. The key is an `id`. */
  add(id: string, value: Value): void {
    hashEntry(id, value);
    this.#add(hash);
  }

  /** Counts an entry out. */
  remove(id: string, value: Value): void {
    hashEntry(id, value);
    let borrow = 0;
    for (let i = 0; i < 4; i++) {
      const difference = this.#sum[i]! - hash[i]! - borrow;
      this.#sum[i] = difference;
      borrow = difference < 0 ? 1 : 0;
    }
    this.#text = undefined;
  }

  clone(): Digest {
    const copy = new Digest();
    copy.#sum.set(this.#sum);
    return copy;
  }

  /** The digest of two states together that have no key in common. */
  plus(other: Digest): Digest {
    const sum = this.clone();
    sum.#add(other.#sum);
    return sum;
  }

  #add(number: Uint32Array): void {
    let carry = 0;
    for (let i = 0; i < 4; i++) {
      const sum = this.#sum[i]! + number[i]! + carry;
      this.#sum[i] = sum;
      carry = sum > 0xffff_ffff ? 1 : 0;
    }
    this.#text = undefined;
  }

  /** 32 lowercase hex digits, highest first. */
  toString(): string {
    if (this.#text !== undefined) return this.#text;
    let text = "";
    for (let i = 3; i >= 0; i--) text += this.#sum[i]!.toString(16).padStart(8, "0");
    return (this.#text = text);
  }
}

/** Where entries are put together. A longer one gets a buffer of its own, so that this one stays small. */
const shared = new Uint8Array(64 * 1024);
const sharedView = new DataView(shared.buffer);
const hash = new Uint32Array(4);

/** Leaves the hash of `u32le(length of key) ‖ key ‖ value` in `hash`. */
function hashEntry(id: string, value: Value): void {
  const needed = 4 + id.length + value.maxLength;
  const buffer = needed <= shared.length ? shared : new Uint8Array(needed);
  const view = buffer === shared ? sharedView : new DataView(buffer.buffer);
  view.setUint32(0, id.length, true);
  for (let i = 0; i < id.length; i++) buffer[4 + i] = id.charCodeAt(i);
  xxh3_128(view, value.writeTo(buffer, 4 + id.length), hash);
}

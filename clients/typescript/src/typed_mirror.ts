import { Key, type KeyLike } from "./key.js";
import type { Mirror } from "./mirror.js";
import type { Value } from "./value.js";

/** A mirror's state with decoded values. */
export class TypedMirror<T> {
  readonly #mirror: Mirror;
  readonly #decode: (value: Value, key: Key) => T;
  /** What was decoded. A value that has gone takes its entry along. */
  readonly #decoded = new WeakMap<Value, { readonly decoded: T }>();

  constructor(mirror: Mirror, decode: (value: Value, key: Key) => T) {
    this.#mirror = mirror;
    this.#decode = decode;
  }

  /** The decoded value of a key. Throws what the decoder throws. */
  get(key: KeyLike): T | undefined {
    const value = this.#mirror.get(key);
    return value === undefined ? undefined : this.decode(value, Key.of(key));
  }

  /** The entries whose keys begin with a prefix, in key order. Throws what the decoder throws. */
  list(prefix: KeyLike = ""): { readonly key: Key; readonly value: T }[] {
    return this.#mirror.list(prefix).map(({ key, value }) => ({ key, value: this.decode(value, key) }));
  }

  /** The decoded form of a value of the mirror: one that a change has, say. */
  decode(value: Value, key: Key): T {
    const known = this.#decoded.get(value);
    if (known !== undefined) return known.decoded;
    const decoded = this.#decode(value, key);
    this.#decoded.set(value, { decoded });
    return decoded;
  }
}

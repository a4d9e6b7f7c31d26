/**
 * A value. It is any bytes; most values are text.
 *
 * It is kept in the form in which it came, as text or as bytes. Keeping both would take twice the memory.
 */
export class Value {
  readonly #content: string | Uint8Array;

  private constructor(content: string | Uint8Array) {
    this.#content = content;
  }

  /** The value of this text or of these bytes. */
  static of(content: string | Uint8Array): Value {
    return new Value(typeof content === "string" ? content : content.slice());
  }

  /** The bytes: a copy. */
  get bytes(): Uint8Array {
    const content = this.#content;
    return typeof content === "string" ? utf8.encode(content) : content.slice();
  }

  /** The text; `undefined` where the value is not UTF-8. */
  get text(): string | undefined {
    const content = this.#content;
    if (typeof content === "string") return content;
    try {
      return strictUtf8.decode(content);
    } catch {
      return undefined;
    }
  }

  /** The value as JSON. Nothing checks that it is a `T`. Throws a `SyntaxError` where it is no JSON. */
  json<T = unknown>(): T {
    const text = this.text;
    if (text === undefined) throw new SyntaxError("the value is not UTF-8, so it is no JSON: use `bytes`");
    return JSON.parse(text) as T;
  }

  /** Whether both have the same bytes. */
  equals(other: Value): boolean {
    const [a, b] = [this.#content, other.#content];
    if (typeof a === "string" && typeof b === "string") return a === b;
    const [left, right] = [this.bytes, other.bytes];
    return left.length === right.length && left.every((byte, at) => byte === right[at]);
  }

  /** The text, for people to read. Bytes that are not UTF-8 are shown as U+FFFD. */
  toString(): string {
    return this.text ?? lossyUtf8.decode(this.bytes);
  }

  /** A number of bytes that the value does not exceed. @internal */
  get maxLength(): number {
    // A UTF-16 unit takes at most three bytes of UTF-8.
    return this.#content.length * (typeof this.#content === "string" ? 3 : 1);
  }

  /** Writes the bytes at an offset; returns the offset after them. @internal */
  writeTo(target: Uint8Array, at: number): number {
    const content = this.#content;
    if (typeof content !== "string") {
      target.set(content, at);
      return at + content.length;
    }
    if (content.length > SHORT) return at + utf8.encodeInto(content, target.subarray(at)).written;
    // The encoder takes longer to be called than a short text to be copied.
    for (let i = 0; i < content.length; i++) {
      const char = content.charCodeAt(i);
      if (char > 127) return at + utf8.encodeInto(content, target.subarray(at)).written;
      target[at + i] = char;
    }
    return at + content.length;
  }
}

const SHORT = 64;
const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lossyUtf8 = new TextDecoder("utf-8", { ignoreBOM: true });

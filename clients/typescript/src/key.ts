import { bytesOfBase64 } from "./base64.js";

/** A key, or what names one: its text, or its bytes. */
export type KeyLike = string | Uint8Array | Key;

/**
 * A key. It is any bytes; most keys are text.
 *
 * Two keys are the same where their `id` is. To use keys in a `Map` of your own, use `id` there.
 */
export class Key {
  /**
   * The bytes as a string of one character each (Latin-1). It differs for different keys, text or not, and strings of
   * it sort as the keys do, byte by byte.
   */
  readonly id: string;

  /** Takes an `id`. `Key.of` takes text or bytes. */
  constructor(id: string) {
    this.id = id;
  }

  /** The key of this text or of these bytes. */
  static of(key: KeyLike): Key {
    return key instanceof Key ? key : new Key(idOf(key));
  }

  /** The bytes: a copy. */
  get bytes(): Uint8Array {
    return Uint8Array.from(this.id, (char) => char.charCodeAt(0));
  }

  /** The text; `undefined` where the key is not UTF-8. */
  get text(): string | undefined {
    if (isAscii(this.id)) return this.id;
    try {
      return strictUtf8.decode(this.bytes);
    } catch {
      return undefined;
    }
  }

  /** The text, for people to read. Of a key that is not UTF-8, bytes beyond ASCII are written as `\xff`. */
  toString(): string {
    return this.text ?? this.id.replace(/[^\x20-\x7e]/g, (char) => "\\x" + hexByte(char.charCodeAt(0)));
  }

  toJSON(): string {
    return this.toString();
  }
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const utf8 = new TextEncoder();

/** The `id` of a key. */
export function idOf(key: KeyLike): string {
  if (key instanceof Key) return key.id;
  if (typeof key !== "string") return latin1(key);
  return isAscii(key) ? key : latin1(utf8.encode(key));
}

/** The `id` of a key that came as `key_base64`. */
export function idOfBase64(base64: string): string {
  return latin1(bytesOfBase64(base64));
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false;
  return true;
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  // A call takes a limited number of arguments.
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return text;
}

function hexByte(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

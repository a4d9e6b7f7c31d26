import { bytesOfBase64 } from "./base64.js";
import { RetryableError } from "./errors.js";
import { idOfBase64, idOf } from "./key.js";
import { Value } from "./value.js";

/** One whole body: a state, or updates. */
export interface Body {
  readonly kind: "state" | "updates";
  readonly cursor: string;
  readonly status: string;
  /** The last value of each key by its `id`; `undefined` where it is deleted. */
  readonly values: Map<string, Value | undefined>;
  /** What the daemon says of the whole state after this body, in the header and at the end. */
  readonly proofs: readonly Proof[];
}

export interface Proof {
  readonly count?: number;
  readonly digest?: string;
}

/** The client's state cannot be continued. */
export interface Reset {
  readonly kind: "reset";
  readonly reason: string;
}

/** A record as it came: nothing is known of its fields. */
type Fields = Readonly<Record<string, unknown>>;

/** Puts bodies together from the lines of NDJSON. */
export class BodyDecoder {
  #header: Fields | undefined;
  #status = "";
  #values = new Map<string, Value | undefined>();

  /** Whether the rest of a body has yet to come. */
  get isUnderWay(): boolean {
    return this.#header !== undefined;
  }

  /** Takes a line; returns what it completes. Throws a `RetryableError` where it is no record. */
  take(line: string): Body | Reset | undefined {
    const record = parse(line);
    switch (record["type"]) {
      case "snapshot":
      case "breadcrumb":
        if (this.#header !== undefined) throw new RetryableError("a body began before the one before it had its `end`");
        this.#header = record;
        this.#status = text(record["status"]) ?? "";
        this.#values = new Map();
        return undefined;
      case "new":
      case "updated":
      case "put":
        this.#expectHeader(record);
        this.#values.set(idOfRecord(record), valueOfRecord(record));
        return undefined;
      case "deleted":
        this.#expectHeader(record);
        this.#values.set(idOfRecord(record), undefined);
        return undefined;
      case "status":
        this.#status = text(record["status"]) ?? this.#status;
        return undefined;
      case "reset":
        if (this.#header !== undefined) throw new RetryableError("a body was broken off by a reset");
        return { kind: "reset", reason: text(record["reason"]) ?? "" };
      case "end":
        return this.#end(this.#expectHeader(record), record);
      default:
        return undefined; // a type that is newer than this client
    }
  }

  #expectHeader(record: Fields): Fields {
    if (this.#header !== undefined) return this.#header;
    throw new RetryableError(`a record "${String(record["type"])}" came before the header of its body`);
  }

  #end(header: Fields, end: Fields): Body {
    const cursor = text(end["cursor"]) ?? text(header["cursor"]);
    if (cursor === undefined) throw new RetryableError("a body has no cursor");
    this.#header = undefined;
    const values = this.#values;
    this.#values = new Map();
    const kind = header["type"] === "snapshot" ? "state" : "updates";
    return { kind, cursor, status: this.#status, values, proofs: [proof(header), proof(end)] };
  }
}

function parse(line: string): Fields {
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch (error) {
    throw new RetryableError(`a line of the answer is no JSON: ${line.slice(0, 80)}`, undefined, { cause: error });
  }
  if (typeof record === "object" && record !== null && "type" in record) return record as Fields;
  throw new RetryableError(`a line of the answer is no record: ${line.slice(0, 80)}`);
}

function idOfRecord(record: Fields): string {
  const { key, key_base64: base64 } = record;
  if (typeof key === "string") return idOf(key);
  if (typeof base64 === "string") return decoded(idOfBase64, base64, "key_base64");
  throw new RetryableError(`a record "${String(record["type"])}" has neither "key" nor "key_base64"`);
}

function valueOfRecord(record: Fields): Value {
  const { value, encoding } = record;
  if (typeof value === "string" && encoding === "utf8") return Value.of(value);
  if (typeof value === "string" && encoding === "base64") return Value.of(decoded(bytesOfBase64, value, "value"));
  throw new RetryableError(
    `a value has the encoding ${JSON.stringify(encoding) ?? "none"}: with values=string it is "utf8" or "base64"`,
  );
}

function decoded<T>(decode: (base64: string) => T, base64: string, field: string): T {
  try {
    return decode(base64);
  } catch (error) {
    throw new RetryableError(`"${field}" is no base64: ${base64.slice(0, 40)}`, undefined, { cause: error });
  }
}

function proof({ count, digest }: Fields): Proof {
  return {
    ...(typeof count === "number" ? { count } : {}),
    ...(typeof digest === "string" ? { digest } : {}),
  };
}

function text(field: unknown): string | undefined {
  return typeof field === "string" ? field : undefined;
}

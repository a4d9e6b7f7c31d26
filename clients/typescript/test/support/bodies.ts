import { Digest } from "#digest";
import { Value } from "crumbd";

/** A state: text by key. Each character of a key is one byte. */
export type Entries = Readonly<Record<string, string>>;

export interface BodyOptions {
  readonly status?: string;
  /** Leaves `count` and `digest` out, as under a prefix. */
  readonly unproved?: boolean;
  /** In the place of the digest. */
  readonly digest?: string;
}

/** A whole state as NDJSON. */
export function stateBody(cursor: string, entries: Entries, options: BodyOptions = {}): string {
  const records = Object.entries(entries).map(([key, value]) => ({ type: "new", key, value, encoding: "utf8" }));
  return lines("snapshot", cursor, records, proofOf(entries, options), options.status);
}

/** The updates that lead from one state to another, as NDJSON. */
export function updatesBody(cursor: string, from: Entries, to: Entries, options: BodyOptions = {}): string {
  const puts = Object.entries(to)
    .filter(([key, value]) => from[key] !== value)
    .map(([key, value]) => ({ type: key in from ? "updated" : "new", key, value, encoding: "utf8" }));
  const deletions = Object.keys(from)
    .filter((key) => !(key in to))
    .map((key) => ({ type: "deleted", key }));
  return lines("breadcrumb", cursor, [...puts, ...deletions], proofOf(to, options), options.status);
}

/** Any records as a body. */
export function lines(
  type: "snapshot" | "breadcrumb",
  cursor: string,
  records: readonly object[],
  proof: object,
  status = "in-sync",
): string {
  const header = { type, mode: type === "snapshot" ? "snapshot" : "delta", cursor, revision: 7, status, ...proof };
  return [header, ...records, { type: "end", cursor, ...proof }]
    .map((record) => JSON.stringify(record) + "\n")
    .join("");
}

export function digestOf(entries: Entries): string {
  const digest = new Digest();
  for (const [key, value] of Object.entries(entries)) digest.add(key, Value.of(value));
  return digest.toString();
}

function proofOf(entries: Entries, { unproved, digest }: BodyOptions): object {
  return unproved === true ? {} : { count: Object.keys(entries).length, digest: digest ?? digestOf(entries) };
}

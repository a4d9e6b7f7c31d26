/** The daemon refuses the request, and asking again does not help: a wrong token, say, or a wrong address. */
export class FatalError extends Error {
  override readonly name = "FatalError";

  constructor(
    message: string,
    /** The HTTP status. */
    readonly status: number,
  ) {
    super(message);
  }
}

/** A failure after which the client goes on by itself. `onRetry` is told of it. */
export class RetryableError extends Error {
  override readonly name: string = "RetryableError";

  constructor(
    message: string,
    /** The time that the daemon asked for, from `Retry-After`. */
    readonly retryAfterMs?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** An answer does not lead to the count or digest that the daemon names. The whole state is read again. */
export class MismatchError extends RetryableError {
  override readonly name = "MismatchError";
}

/** The status 421, at which `fetch` has sent the request twice by itself. */
export class MisdirectedError extends RetryableError {}

/** The sentence of anything that was thrown, with its cause. */
export function sentenceOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  const name = error.name === "Error" ? FETCH_SAYS_NOTHING : error.name; // such as Node's AggregateError
  const message = error.message || code || name;
  return error.cause === undefined ? message : `${message}: ${sentenceOf(error.cause)}`;
}

/** Node's `fetch` gives no answer of this status to anybody, and no reason. */
const FETCH_SAYS_NOTHING = "no reason is given, as for the status 407 (Proxy Authentication Required)";

/** How much of what somebody else wrote is shown. */
const LONGEST_EXCERPT = 200;

/** Makes a text fit into a sentence: in one line, printable, not too long, and without the passwords of addresses. */
export function oneLine(text: string, longest = LONGEST_EXCERPT): string {
  const line = text
    .replace(/[\s\p{C}]+/gu, " ")
    .trim()
    .replace(/\/\/[^/?# ]*@/g, "//…@");
  return line.length > longest ? line.slice(0, longest) + "…" : line;
}

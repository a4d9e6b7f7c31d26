import { FatalError, MisdirectedError, oneLine, RetryableError, sentenceOf } from "./errors.js";

/** How requests are sent. */
export interface Sender {
  readonly fetch: typeof fetch;
  readonly headers: Headers;
  /** Ends every request. */
  readonly signal: AbortSignal;
  /** The longest record of an answer. */
  readonly maxLineBytes: number;
}

/** How long the daemon may be silent, in milliseconds. */
export interface Limits {
  readonly headMs: number;
  readonly bodyMs: number;
}

export const MEDIA_TYPE = "application/x-ndjson";

/** The cursor is gone, or the rights are others: the whole state must be read. */
export class GoneError extends Error {
  constructor(
    message: string,
    readonly rightsChanged: boolean,
  ) {
    super(message);
  }
}

/** One request and its answer. A daemon that is silent for too long is given up. */
export class Exchange {
  readonly #abort = new AbortController();
  readonly #sender: Sender;
  readonly #address: string;
  readonly #limits: Limits;
  #response: Response | undefined;

  /**
   * Sends a GET. The answer is 200 or 204; anything else throws: `GoneError`, `FatalError` or `RetryableError`.
   */
  static async send(sender: Sender, address: string, limits: Limits): Promise<Exchange> {
    const exchange = new Exchange(sender, address, limits);
    try {
      await exchange.#send();
    } catch (error) {
      exchange.close();
      throw error;
    }
    return exchange;
  }

  private constructor(sender: Sender, address: string, limits: Limits) {
    this.#sender = sender;
    this.#address = address;
    this.#limits = limits;
    sender.signal.throwIfAborted();
    sender.signal.addEventListener("abort", this.#stop, { once: true });
  }

  /** An arrow, because it is a listener that is removed again. */
  readonly #stop = (): void => this.#abort.abort(this.#sender.signal.reason);

  get status(): number {
    return this.#response?.status ?? 0;
  }

  header(name: string): string | null {
    return this.#response?.headers.get(name) ?? null;
  }

  /** The lines of the body as they come, without the empty ones, which are heartbeats. */
  async *lines(): AsyncGenerator<string[], void, undefined> {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    let pieces: string[] = []; // of the line that has not ended
    let length = 0; // its bytes
    for await (const bytes of this.#pieces()) {
      const first = bytes.indexOf(LINE_FEED);
      length += first < 0 ? bytes.length : first;
      this.#checkLength(length);
      if (first >= 0) length = bytes.length - 1 - bytes.lastIndexOf(LINE_FEED);
      this.#checkLength(length);
      let text: string;
      try {
        text = decoder.decode(bytes, { stream: true });
      } catch (error) {
        throw new RetryableError(`the answer of ${this.#address} is not UTF-8`, undefined, { cause: error });
      }
      pieces.push(text);
      if (!text.includes("\n")) continue;
      const lines = pieces.join("").split("\n");
      pieces = [lines.pop() ?? ""];
      const filled = lines.filter((line) => line.trim() !== "");
      if (filled.length > 0) yield filled;
    }
    const rest = pieces.join("");
    if (rest.trim() !== "") throw new RetryableError(`the answer of ${this.#address} ends within a line`);
  }

  /** Drops what has not been read. */
  close(): void {
    this.#sender.signal.removeEventListener("abort", this.#stop);
    this.#abort.abort(new Error("the answer is not needed any more"));
  }

  /** The answer was read to its end, so its connection can be used again. */
  finish(): void {
    this.#sender.signal.removeEventListener("abort", this.#stop);
  }

  async #send(): Promise<void> {
    const { fetch, headers } = this.#sender;
    // Another address may belong to somebody else, who would be given the token.
    const request: RequestInit = { headers, signal: this.#abort.signal, redirect: "manual" };
    const response = await this.#withLimit(this.#limits.headMs, "sent no answer", () => fetch(this.#address, request));
    this.#response = response;
    if (response.status === 204) return;
    if (response.status !== 200) throw await this.#refusal(response);
    const type = response.headers.get("content-type") ?? "";
    if (type.split(";", 1)[0]!.trim().toLowerCase() === MEDIA_TYPE) return;
    const named = type === "" ? "no Content-Type" : `the Content-Type "${oneLine(type)}"`;
    throw new RetryableError(`${this.#address} answered with ${named} in the place of ${MEDIA_TYPE}: is it a daemon?`);
  }

  #checkLength(length: number): void {
    const { maxLineBytes } = this.#sender;
    if (length <= maxLineBytes) return;
    throw new RetryableError(`a record of ${this.#address} has more than ${maxLineBytes} bytes (maxLineBytes)`);
  }

  async *#pieces(): AsyncGenerator<Uint8Array, void, undefined> {
    const reader = this.#response?.body?.getReader();
    if (reader === undefined) return;
    for (;;) {
      const read = await this.#withLimit(this.#limits.bodyMs, "sent no more of its answer", () => reader.read());
      if (read.done) return;
      yield read.value;
    }
  }

  async #withLimit<T>(limitMs: number, silence: string, work: () => Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      this.#abort.abort(new RetryableError(`${this.#address} ${silence} for ${limitMs} ms`));
    }, limitMs);
    try {
      return await work();
    } catch (error) {
      this.#sender.signal.throwIfAborted();
      const { aborted, reason } = this.#abort.signal;
      if (aborted && reason instanceof RetryableError) throw reason;
      const message = `${this.#address} gave no whole answer: ${sentenceOf(error)}`;
      throw new RetryableError(message, undefined, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  async #refusal(response: Response): Promise<Error> {
    const { status } = response;
    if (response.type === "opaqueredirect" || (status >= 300 && status < 400 && response.headers.has("location"))) {
      const location = response.headers.get("location"); // browsers hide it, and the status
      const leads = location === null ? "" : ` to ${oneLine(location)}`;
      const redirects = `${this.#address} answered ${status || 3}${status === 0 ? "xx" : ""}: it redirects${leads}`;
      return new RetryableError(`${redirects}, which is not followed; give the address of the daemon itself`);
    }
    const { type, detail } = await this.#problem();
    const said = detail || oneLine(response.statusText) || "no reason is given";
    const sentence = `${this.#address} answered ${status}: ${said}`;
    // The rights have changed while it waited: the answer to the next request tells whether any are left.
    if (status === 403 && type === PERMISSION_CHANGED) return new GoneError(sentence, true);
    if (status === 410) return new GoneError(sentence, type === RIGHTS_CHANGED);
    if (status === 421) return new MisdirectedError(sentence);
    if (status === 429 || status === 503) return new RetryableError(sentence, retryAfterMs(response));
    return FATAL.has(status) ? new FatalError(sentence, status) : new RetryableError(sentence);
  }

  /** The type and the sentence of the problem in the body, or the beginning of a body that is none. */
  async #problem(): Promise<{ type: string; detail: string }> {
    const decoder = new TextDecoder();
    let text = "";
    try {
      for await (const bytes of this.#pieces()) {
        text += decoder.decode(bytes, { stream: true });
        if (text.length > LONGEST_PROBLEM) break;
      }
      const problem: unknown = JSON.parse(text);
      if (typeof problem === "object" && problem !== null) {
        const { type = "", title = "", detail = title } = problem as Readonly<Record<string, unknown>>;
        if (detail !== "") return { type: String(type), detail: oneLine(String(detail), LONGEST_DETAIL) };
      }
    } catch {
      this.#sender.signal.throwIfAborted();
    }
    return { type: "", detail: oneLine(text) };
  }
}

const LINE_FEED = 10;

/** The answers that asking again does not help. */
const FATAL: ReadonlySet<number> = new Set([400, 401, 403, 404, 406]);
const PERMISSION_CHANGED = "urn:crumbd:problem:permission-changed";
const RIGHTS_CHANGED = "urn:crumbd:problem:rights-changed";

const LONGEST_PROBLEM = 64 * 1024;
const LONGEST_DETAIL = 2_000;
/** A daemon asks for at most a minute. */
const LONGEST_RETRY_AFTER_MS = 300_000;
/** Not every text that `Date.parse` takes: it finds a date in "1.5". */
const HTTP_DATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/** `Retry-After`, as whole seconds or as a date. What is neither, or not ahead, counts as absent. */
function retryAfterMs(response: Response): number | undefined {
  const text = response.headers.get("retry-after")?.trim() ?? "";
  let ms = 0;
  if (/^\d+$/.test(text)) ms = Number(text) * 1000;
  else if (HTTP_DATE.test(text)) ms = Date.parse(text) - Date.now();
  return ms > 0 ? Math.min(LONGEST_RETRY_AFTER_MS, ms) : undefined;
}

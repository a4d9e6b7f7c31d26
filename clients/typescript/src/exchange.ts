import { FatalError, RetryableError, sentenceOf } from "./errors.js";

/** How requests are sent. */
export interface Sender {
  readonly fetch: typeof fetch;
  readonly headers: Headers;
  /** Ends every request. */
  readonly signal: AbortSignal;
}

/** How long the daemon may be silent, in milliseconds. */
export interface Limits {
  readonly headMs: number;
  readonly bodyMs: number;
}

/** The cursor is gone, or the rights are others: the whole state must be read. */
export class GoneError extends Error {}

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
    for await (const bytes of this.#pieces()) {
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
    const request: RequestInit = { headers, signal: this.#abort.signal };
    const response = await this.#withLimit(this.#limits.headMs, "sent no answer", () => fetch(this.#address, request));
    this.#response = response;
    if (response.status === 200 || response.status === 204) return;
    throw await this.#refusal(response);
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
    const { type, detail } = await this.#problem();
    const sentence = `${this.#address} answered ${status}: ${detail || response.statusText}`;
    // The rights have changed while it waited: the answer to the next request tells whether any are left.
    if (status === 410 || (status === 403 && type === PERMISSION_CHANGED)) return new GoneError(sentence);
    if (status === 429 || status === 503) return new RetryableError(sentence, retryAfterMs(response));
    const mayPass = status < 400 || status >= 500 || status === 408 || status === 425;
    return mayPass ? new RetryableError(sentence) : new FatalError(sentence, status);
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
      if (typeof problem === "object" && problem !== null && "detail" in problem) {
        return { type: "type" in problem ? String(problem.type) : "", detail: String(problem.detail) };
      }
    } catch {
      this.#sender.signal.throwIfAborted();
    }
    return { type: "", detail: text.slice(0, 200).trim() };
  }
}

const PERMISSION_CHANGED = "urn:crumbd:problem:permission-changed";

const LONGEST_PROBLEM = 64 * 1024;
const LONGEST_RETRY_AFTER_MS = 24 * 60 * 60 * 1000;

/** `Retry-After`, as seconds or as a date. */
function retryAfterMs(response: Response): number | undefined {
  const text = response.headers.get("retry-after")?.trim() ?? "";
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(LONGEST_RETRY_AFTER_MS, Math.max(0, ms));
}

import { collectionPath, Endpoints, prefixQuery } from "./address.js";
import type { Body } from "./body.js";
import type { Change } from "./change.js";
import { MismatchError, RetryableError } from "./errors.js";
import type { Sender } from "./exchange.js";
import type { FollowOptions } from "./options.js";
import { Pace, sleep } from "./pace.js";
import { LongPoll } from "./poll.js";
import { State } from "./state.js";
import { Stream } from "./stream.js";
import type { Answer, Position, Transport } from "./transport.js";

/** One step of the state. */
export interface FollowEvent {
  /** The position in the daemon's history. It is opaque. */
  readonly cursor: string;
  /** The daemon's: `in-sync`, `resync-in-progress` or `wait-for-datastore`. */
  readonly status: string;
  /** What the application has not been told yet. Empty where only the status or the cursor is new. */
  readonly changes: readonly Change[];
  /** Whether the whole state was read again, because the old one could not be continued. */
  readonly resync: boolean;
  /** The number of keys after the changes. */
  readonly size: number;
  /** The digest of the state after the changes, as 32 hex digits. */
  readonly digest: string;
}

/** Follows a daemon: asks, checks, applies, and goes on after failures. */
export class Follower {
  readonly state = new State();
  readonly #options: FollowOptions;
  readonly #endpoints: Endpoints;
  readonly #transport: Transport;
  readonly #pace = new Pace();
  readonly #abort = new AbortController();
  /** Aborted by `close`, or by the application. It is no listener of the application's signal, which may live longer. */
  readonly #signal: AbortSignal;
  /** Where to go on; nothing where the whole state must be read. */
  #position: Position | undefined;
  #cursor: string | undefined;
  #status: string | undefined;

  /** Throws a `TypeError` where an option cannot be right. */
  constructor(options: FollowOptions) {
    this.#options = options;
    this.#endpoints = new Endpoints(options.url);
    const { timeoutMs } = options;
    if (timeoutMs !== undefined && !(timeoutMs >= 1 && timeoutMs < 2 ** 31)) {
      throw new TypeError(`timeoutMs is ${timeoutMs}: it must be a number of milliseconds, at least 1`);
    }
    const headers = new Headers({ accept: "application/x-ndjson; values=string" });
    if (options.token !== undefined) headers.set("authorization", `Bearer ${headerText("token", options.token)}`);
    if (options.name !== undefined) headers.set("crumbd-client", headerText("name", options.name));
    const { signal } = this.#abort;
    this.#signal = options.signal === undefined ? signal : AbortSignal.any([signal, options.signal]);
    // Browsers want `fetch` to be called on nothing or on the global object.
    const fetch: typeof globalThis.fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    const sender: Sender = { fetch, headers, signal: this.#signal };
    const [path, query] = [collectionPath(options.collection), prefixQuery(options.prefix)];
    this.#transport =
      options.transport === "stream"
        ? new Stream(sender, this.#endpoints, `${path}/stream${query}`, timeoutMs)
        : new LongPoll(sender, this.#endpoints, `${path}/breadcrumbs/current${query}`, timeoutMs);
  }

  /** The cursor of the state; `undefined` before the first one. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  get status(): string | undefined {
    return this.#status;
  }

  /** Waits for the next event. Throws a `FatalError`, or the signal's reason. */
  async next(): Promise<FollowEvent> {
    for (;;) {
      try {
        this.#signal.throwIfAborted();
        const event = await this.#take(await this.#transport.next(this.#position));
        if (event !== undefined) return event;
      } catch (error) {
        await this.#recover(error);
      }
    }
  }

  /** Whether `close` has ended it. */
  get isClosed(): boolean {
    return this.#abort.signal.aborted;
  }

  /** Ends it: `next` throws from now on. */
  close(): void {
    this.#abort.abort(new Error("the client was closed"));
    this.#transport.close();
  }

  async #take(answer: Answer): Promise<FollowEvent | undefined> {
    switch (answer.kind) {
      case "body":
        return answer.body.kind === "state"
          ? this.#replace(answer.body, answer.position)
          : this.#update(answer.body, answer.position, answer.atOnce);
      case "unchanged": {
        this.#pace.succeeded();
        if (answer.atOnce) await this.#sleep(this.#pace.takeTokenMs());
        const { status } = answer;
        this.#advance(answer.position);
        if (status === undefined || status === this.#status || this.#status === undefined) return undefined;
        return this.#event(status, this.state.settle(status), false);
      }
      case "gone":
        this.#position = undefined;
        await this.#sleep(this.#pace.takeTokenMs());
        return undefined;
      case "ended":
        await this.#sleep(this.#pace.takeTokenMs());
        return undefined;
    }
  }

  async #replace(body: Body, position: Position): Promise<FollowEvent | undefined> {
    const digest = State.check(body);
    if (body.values.size === 0 && this.state.size > 0 && this.#options.allowEmpty !== true) {
      this.#transport.close();
      this.#position = undefined;
      this.#options.onHeld?.(this.state.size);
      await this.#sleep(this.#pace.afterFailureMs());
      return undefined;
    }
    const isFirst = this.#cursor === undefined;
    const changes = this.state.replace(body, digest);
    this.#pace.succeeded();
    this.#advance(position);
    return this.#event(body.status, changes, !isFirst);
  }

  async #update(body: Body, position: Position, atOnce: boolean): Promise<FollowEvent | undefined> {
    if (this.#position === undefined) throw new RetryableError("the whole state was asked for, and updates came");
    const changes = this.state.update(body);
    this.#pace.succeeded();
    this.#advance(position);
    if (changes.length === 0 && body.status === this.#status) {
      if (atOnce) await this.#sleep(this.#pace.takeTokenMs());
      return undefined;
    }
    return this.#event(body.status, changes, false);
  }

  #advance(position: Position): void {
    this.#position = position;
    this.#cursor = position.cursor;
  }

  #event(status: string, changes: readonly Change[], resync: boolean): FollowEvent {
    this.#status = status;
    return { cursor: this.#cursor ?? "", status, changes, resync, size: this.state.size, digest: this.state.digest };
  }

  /** Waits before the next attempt, or throws where there is none. */
  async #recover(error: unknown): Promise<void> {
    this.#transport.close();
    this.#signal.throwIfAborted();
    if (!(error instanceof RetryableError)) throw error;
    // A state that an answer does not lead on from may be wrong itself.
    if (error instanceof MismatchError) this.#position = undefined;
    const { retryAfterMs } = error;
    if (retryAfterMs === undefined) this.#endpoints.moveOn();
    const pauseMs = retryAfterMs === undefined ? this.#pace.afterFailureMs() : this.#pace.afterRefusalMs(retryAfterMs);
    this.#options.onRetry?.(error, pauseMs);
    await this.#sleep(pauseMs);
  }

  async #sleep(ms: number): Promise<void> {
    await sleep(ms, this.#signal);
  }
}

/** A text that a header can carry. The error has no token in it, unlike that of `Headers`. */
function headerText(option: string, text: string): string {
  if (/^[!-~]([ -~]*[!-~])?$/.test(text)) return text;
  throw new TypeError(`${option} is empty or has more than printable ASCII: is there a line break at its end?`);
}

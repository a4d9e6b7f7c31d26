import { collectionPath, Endpoints, prefixQuery } from "./address.js";
import type { Body } from "./body.js";
import type { Change } from "./change.js";
import { MisdirectedError, MismatchError, oneLine, RetryableError } from "./errors.js";
import { MEDIA_TYPE, type Sender } from "./exchange.js";
import type { FollowOptions } from "./options.js";
import { Pace, sleep } from "./pace.js";
import { LongPoll } from "./poll.js";
import { IN_SYNC, State } from "./state.js";
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
  /** The rights have changed, and no state under the new ones was in-sync yet. It may well be empty. */
  #isNarrowed = false;
  /** What has to pass before the next request, after an answer that moved nothing. */
  #pauseMs = 0;

  /** Throws a `TypeError` where an option cannot be right. */
  constructor(options: FollowOptions) {
    this.#options = options;
    this.#endpoints = new Endpoints(options.url);
    const { timeoutMs } = options;
    if (timeoutMs !== undefined && !(timeoutMs >= 1 && timeoutMs < 2 ** 31)) {
      throw new TypeError(`timeoutMs is ${timeoutMs}: it must be a number of milliseconds, at least 1`);
    }
    const { maxLineBytes = LONGEST_LINE } = options;
    if (!(maxLineBytes >= 1)) throw new TypeError(`maxLineBytes is ${maxLineBytes}: it must be a number of bytes`);
    const headers = new Headers({ accept: `${MEDIA_TYPE}; values=string` });
    if (options.token !== undefined) headers.set("authorization", `Bearer ${headerText("token", options.token)}`);
    if (options.name !== undefined) headers.set("crumbd-client", headerText("name", options.name));
    const { signal } = this.#abort;
    this.#signal = options.signal === undefined ? signal : AbortSignal.any([signal, options.signal]);
    // Browsers want `fetch` to be called on nothing or on the global object.
    const fetch: typeof globalThis.fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    const sender: Sender = { fetch, headers, signal: this.#signal, maxLineBytes };
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
        const pauseMs = this.#pauseMs;
        this.#pauseMs = 0;
        await this.#sleep(pauseMs);
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
          ? this.#replace(answer.body, answer.position, answer.atOnce)
          : this.#update(answer.body, answer.position, answer.atOnce);
      case "unchanged": {
        const { status } = answer;
        this.#advance(answer.position, answer.atOnce);
        if (status === undefined || status === this.#status || this.#status === undefined) {
          if (answer.atOnce) this.#pauseMs ||= this.#pace.takeTokenMs();
          return undefined;
        }
        this.#settle(status);
        return this.#event(status, this.state.settle(status), false);
      }
      case "gone": {
        this.#isNarrowed ||= answer.rightsChanged;
        const askedForState = this.#position === undefined;
        this.#position = undefined;
        if (askedForState && !answer.stateFollows) throw new RetryableError(answer.reason);
        await this.#sleep(this.#pace.takeTokenMs());
        return undefined;
      }
      case "ended": {
        const pauseMs = this.#pace.takeTokenMs();
        if (answer.reason !== undefined) {
          this.#isNarrowed = true;
          this.#options.onRetry?.(this.#located(new RetryableError(answer.reason)), pauseMs);
        }
        await this.#sleep(pauseMs);
        return undefined;
      }
    }
  }

  async #replace(body: Body, position: Position, atOnce: boolean): Promise<FollowEvent | undefined> {
    const digest = State.check(body);
    const mayBeEmpty = this.#isNarrowed || this.#options.allowEmpty === true;
    if (body.values.size === 0 && this.state.size > 0 && !mayBeEmpty) {
      this.#transport.close();
      this.#position = undefined;
      this.#options.onHeld?.(this.state.size);
      await this.#sleep(this.#pace.afterFailureMs());
      return undefined;
    }
    const cursor = this.#cursor;
    const changes = this.state.replace(body, digest);
    this.#settle(body.status);
    this.#advance(position, atOnce);
    if (changes.length === 0 && body.status === this.#status && body.cursor === cursor) return undefined;
    return this.#event(body.status, changes, cursor !== undefined);
  }

  async #update(body: Body, position: Position, atOnce: boolean): Promise<FollowEvent | undefined> {
    if (this.#position === undefined) throw new RetryableError("the whole state was asked for, and updates came");
    const changes = this.state.update(body);
    this.#settle(body.status);
    this.#advance(position, atOnce);
    if (changes.length === 0 && body.status === this.#status) {
      if (atOnce) this.#pauseMs ||= this.#pace.takeTokenMs();
      return undefined;
    }
    return this.#event(body.status, changes, false);
  }

  /** Notes that the state is complete: if the next one that is read is empty, it is not because of the rights. */
  #settle(status: string): void {
    if (status === IN_SYNC) this.#isNarrowed = false;
  }

  /** Goes on from a position. If the daemon answered at once, and it is the old one, that counts as a failure. */
  #advance(position: Position, atOnce: boolean): void {
    if (atOnce && position.cursor === this.#cursor) this.#pauseMs = this.#pace.afterFailureMs();
    else this.#pace.succeeded();
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
    this.#located(error);
    // A state that an answer does not lead on from may be wrong itself.
    if (error instanceof MismatchError) this.#position = undefined;
    if (error instanceof MisdirectedError) this.#pace.takeTokenMs();
    const { retryAfterMs } = error;
    if (retryAfterMs === undefined) this.#endpoints.moveOn();
    const pauseMs = retryAfterMs === undefined ? this.#pace.afterFailureMs() : this.#pace.afterRefusalMs(retryAfterMs);
    this.#options.onRetry?.(error, pauseMs);
    await this.#sleep(pauseMs);
  }

  /** Names the address in the sentence of an error, and makes it one line. */
  #located<E extends RetryableError>(error: E): E {
    const sentence = oneLine(error.message, LONGEST_SENTENCE);
    const address = this.#endpoints.address("");
    error.message = sentence.includes(this.#endpoints.current.origin) ? sentence : `${address}: ${sentence}`;
    return error;
  }

  async #sleep(ms: number): Promise<void> {
    await sleep(ms, this.#signal);
  }
}

const LONGEST_LINE = 64 * 1024 * 1024;
const LONGEST_SENTENCE = 3_000;

/** A text that a header can carry. The error has no token in it, unlike that of `Headers`. */
function headerText(option: string, text: string): string {
  if (/^[!-~]([ -~]*[!-~])?$/.test(text)) return text;
  throw new TypeError(`${option} is empty or has more than printable ASCII: is there a line break at its end?`);
}

import type { Change, DeletedChange, NewChange, UpdatedChange } from "./change.js";
import { Conflation } from "./conflation.js";
import { type FollowEvent, Follower } from "./follower.js";
import { interruptible } from "./interruptible.js";
import { Key, type KeyLike, idOf } from "./key.js";
import { Listeners } from "./listeners.js";
import { type FollowOptions, optionsOf } from "./options.js";
import type { RetryableError } from "./errors.js";
import { IN_SYNC, type State } from "./state.js";
import { TypedMirror } from "./typed_mirror.js";
import type { Value } from "./value.js";

/** The events of a mirror. All listeners of one answer are called before the next answer is applied. */
export interface MirrorEvents {
  new: NewChange;
  updated: UpdatedChange;
  deleted: DeletedChange;
  /** An answer was applied: all of its changes together. */
  changes: FollowEvent;
  /** The daemon has another status. */
  status: string;
  /** A failure, after which the mirror goes on by itself. */
  retry: { readonly error: RetryableError; readonly pauseMs: number };
  /** The daemon's state is empty now, and the mirror keeps its keys (see `allowEmpty`). */
  held: { readonly size: number };
  /** The mirror has ended with an error, and is not kept up to date any more. */
  error: Error;
}

/** One key and its value. */
export interface Entry {
  readonly key: Key;
  readonly value: Value;
}

/** A timer of more would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31;

/** A copy of the daemon's state in memory, which is kept up to date. */
export class Mirror {
  readonly #follower: Follower;
  readonly #state: State;
  readonly #listeners = new Listeners<MirrorEvents>();
  readonly #conflations = new Set<Conflation>();
  /** Called after each answer, and at the end. */
  readonly #waiters = new Set<() => void>();
  #phase: "idle" | "running" | "closed" = "idle";
  #error: Error | undefined;
  #toldStatus: string | undefined;
  readonly #signal: AbortSignal | undefined;

  /** Throws a `TypeError` where an option cannot be right. Nothing is asked before `start`. */
  constructor(target: string | FollowOptions) {
    const options = optionsOf(target);
    this.#signal = options.signal;
    this.#follower = new Follower({
      ...options,
      onRetry: (error, pauseMs) => {
        options.onRetry?.(error, pauseMs);
        this.#listeners.emit("retry", { error, pauseMs });
      },
      onHeld: (size) => {
        options.onHeld?.(size);
        this.#listeners.emit("held", { size });
      },
    });
    this.#state = this.#follower.state;
  }

  /** Begins to follow the daemon. Returns the mirror itself; a second call does nothing. */
  start(): this {
    if (this.#phase === "idle") {
      this.#phase = "running";
      void this.#run();
    }
    return this;
  }

  /** Ends it. The state stays readable. */
  close(): void {
    if (this.#phase === "closed") return;
    this.#phase = "closed";
    this.#follower.close();
    this.#wake();
  }

  /** The value of a key. */
  get(key: KeyLike): Value | undefined {
    return this.#state.get(idOf(key));
  }

  /** The entries whose keys begin with a prefix, in key order. */
  list(prefix: KeyLike = ""): Entry[] {
    return this.#state.idsWithPrefix(idOf(prefix)).map((id) => ({ key: new Key(id), value: this.#state.get(id)! }));
  }

  /** The number of keys. */
  get size(): number {
    return this.#state.size;
  }

  /** The digest of the state, as 32 hex digits. Equal states have equal digests. */
  get digest(): string {
    return this.#state.digest;
  }

  /** The cursor of the state; `undefined` before the first one. */
  get cursor(): string | undefined {
    return this.#follower.cursor;
  }

  /** The daemon's status; `undefined` before the first state. */
  get status(): string | undefined {
    return this.#follower.status;
  }

  /** Whether a state is there, and the daemon said of it that it is complete. */
  get synced(): boolean {
    return this.status === IN_SYNC;
  }

  /** The error with which the mirror has ended. */
  get error(): Error | undefined {
    return this.#error;
  }

  /** The same state with decoded values. Each value is decoded once, when it is asked for. */
  typed<T>(decode: (value: Value, key: Key) => T): TypedMirror<T> {
    return new TypedMirror(this, decode);
  }

  /** Adds a listener; returns a function that removes it. */
  on<Type extends keyof MirrorEvents>(type: Type, listener: (event: MirrorEvents[Type]) => void): () => void {
    return this.#listeners.add(type, listener);
  }

  /**
   * The changes, for a consumer that may be slow. The first ones are all keys as `new`. While the consumer is busy,
   * changes of one key become one, so the memory is bounded by the number of keys.
   *
   * It ends when the mirror is closed, and throws the error with which the mirror has ended.
   */
  changes(): AsyncGenerator<Change[], void, undefined> {
    const conflation = new Conflation(this.#state);
    return interruptible(this.#take(conflation), () => conflation.end());
  }

  async *#take(conflation: Conflation): AsyncGenerator<Change[], void, undefined> {
    conflation.begin();
    this.#conflations.add(conflation);
    try {
      while (!conflation.isEnded) {
        const changes = conflation.take();
        if (changes.length > 0) yield changes;
        else if (this.#error !== undefined) throw this.#error;
        else if (this.#phase === "closed") return;
        else await conflation.wait();
      }
    } finally {
      this.#conflations.delete(conflation);
    }
  }

  /**
   * Waits until the mirror is in sync. Throws the error with which it has ended, a `TimeoutError` (`DOMException`)
   * after `timeoutMs` (60 s where left out; `Infinity` for no limit), or the signal's reason.
   */
  async waitForSync(options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {}): Promise<void> {
    const { timeoutMs = 60_000, signal } = options;
    if (!(timeoutMs >= 0)) throw new TypeError(`timeoutMs is ${timeoutMs}: it must be a number of milliseconds`);
    signal?.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", stop);
        this.#waiters.delete(look);
        settle();
      };
      const stop = (): void => end(() => reject(signal?.reason));
      const look = (): void => {
        if (this.#error !== undefined) end(() => reject(this.#error));
        else if (this.#phase === "closed") end(() => reject(new Error("the mirror was closed")));
        else if (this.synced) end(resolve);
      };
      const late = (): void => {
        const status = this.#phase === "idle" ? "it was not started" : `its status is ${this.status ?? "unknown"}`;
        const message = `the mirror was not in sync within ${timeoutMs} ms: ${status}`;
        end(() => reject(new DOMException(message, "TimeoutError")));
      };
      const timer = timeoutMs < LONGEST_TIMER_MS ? setTimeout(late, timeoutMs) : undefined;
      signal?.addEventListener("abort", stop, { once: true });
      this.#waiters.add(look);
      look();
    });
  }

  async #run(): Promise<void> {
    try {
      while (this.#phase === "running") this.#tell(await this.#follower.next());
    } catch (error) {
      if (this.#phase !== "closed" && this.#signal?.aborted !== true) this.#fail(error);
    }
    this.close();
  }

  #tell(event: FollowEvent): void {
    const status = this.#toldStatus;
    this.#toldStatus = event.status;
    for (const conflation of this.#conflations) conflation.add(event.changes);
    for (const change of event.changes) this.#tellChange(change);
    this.#listeners.emit("changes", event);
    if (event.status !== status) this.#listeners.emit("status", event.status);
    this.#wake();
  }

  #tellChange(change: Change): void {
    if (change.type === "new") this.#listeners.emit("new", change);
    else if (change.type === "updated") this.#listeners.emit("updated", change);
    else this.#listeners.emit("deleted", change);
  }

  #fail(thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    this.#error = error;
    const isHeard = this.#listeners.has("error") || this.#waiters.size > 0 || this.#conflations.size > 0;
    this.#listeners.emit("error", error);
    // A mirror must not end unnoticed.
    if (!isHeard) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #wake(): void {
    for (const look of [...this.#waiters]) look();
    for (const conflation of this.#conflations) conflation.wake();
  }
}

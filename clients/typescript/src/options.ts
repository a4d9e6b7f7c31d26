import type { KeyLike } from "./key.js";
import type { RetryableError } from "./errors.js";

/** What to follow, and how. */
export interface FollowOptions {
  /**
   * The address of the daemon, such as `http://localhost:7811`, perhaps with a path. Of several replicas the first is
   * asked first, and the next one when one does not answer.
   */
  readonly url: string | readonly string[];
  /** `poll` (the default) asks with long polls. `stream` reads one long answer: a change costs no request. */
  readonly transport?: "poll" | "stream";
  /** Follow only the keys that begin with this, or with one of these. */
  readonly prefix?: KeyLike | readonly KeyLike[];
  /** The collection. Without it the daemon's default one. */
  readonly collection?: string;
  /** Sent as `Authorization: Bearer TOKEN`. */
  readonly token?: string;
  /** The name under which the daemon lists this client (`Crumbd-Client`), such as `agent-17/2.4.0`. */
  readonly name?: string;
  /**
   * What to do where the whole state was read again and is empty, though it was not before. It may be a datastore that
   * lost its data. Without this the client keeps its keys, tells `onHeld`, and asks again until the state is not empty.
   * Keys that it may not read any more are not kept.
   */
  readonly allowEmpty?: boolean;
  /**
   * The longest silence, in milliseconds: before the head of an answer, and between two pieces of its body. A daemon
   * that is silent for longer is given up and asked again. 60 s where left out, and 45 s within a stream.
   */
  readonly timeoutMs?: number;
  /** The longest record of an answer in bytes, uncompressed: 64 MiB where left out. A longer one is a failure. */
  readonly maxLineBytes?: number;
  /** Ends it. The iterator then throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** Used in the place of the global `fetch`: for tests, proxies, or TLS settings of your own. */
  readonly fetch?: typeof fetch;
  /**
   * Told of each failure after which the client goes on by itself, and of the pause before it does. What it throws ends
   * the client.
   */
  readonly onRetry?: (error: RetryableError, pauseMs: number) => void;
  /** Told that the daemon's state is empty now, and that this many keys are kept (see `allowEmpty`). */
  readonly onHeld?: (size: number) => void;
}

/** The options, where only an address is given. */
export function optionsOf(target: string | FollowOptions): FollowOptions {
  return typeof target === "string" ? { url: target } : target;
}

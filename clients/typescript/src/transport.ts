import type { Body } from "./body.js";

/** Where the client goes on: it has the state at the cursor. */
export interface Position {
  readonly cursor: string;
  /** Path and query of the next long poll. */
  readonly link?: string;
  /** The rights under which a stream was read, as the daemon names them. */
  readonly rights?: string | undefined;
}

/**
 * What the daemon tells.
 *
 * `atOnce` says that the daemon answered a long poll before the wait that was asked for was over. Where such an answer
 * says nothing new either, the client has to pause, or it would ask in a loop.
 */
export type Answer =
  | { readonly kind: "body"; readonly body: Body; readonly position: Position; readonly atOnce: boolean }
  /** No change. The cursor may have moved on. */
  | {
      readonly kind: "unchanged";
      readonly position: Position;
      readonly status: string | undefined;
      readonly atOnce: boolean;
    }
  /** The state cannot be continued: the whole one must be read. Within a stream it follows by itself. */
  | {
      readonly kind: "gone";
      readonly reason: string;
      readonly rightsChanged: boolean;
      readonly stateFollows: boolean;
    }
  /** A stream has ended between two bodies: the daemon stops, say. A reason says that the rights have changed. */
  | { readonly kind: "ended"; readonly reason?: string };

/** A way to ask the daemon. */
export interface Transport {
  /** The next answer after a position; without one, the whole state. */
  next(position: Position | undefined): Promise<Answer>;
  /** Drops what is open, after a failure or at the end. */
  close(): void;
}

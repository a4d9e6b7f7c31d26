import { type Endpoints, withParameter } from "./address.js";
import { BodyDecoder } from "./body.js";
import { RetryableError } from "./errors.js";
import { Exchange, GoneError, type Sender } from "./exchange.js";
import type { Answer, Position, Transport } from "./transport.js";

const HEAD_LIMIT_MS = 60_000;
/** Three times the time between two heartbeats. */
const SILENCE_LIMIT_MS = 45_000;

/** The stream that is open. */
interface Open {
  readonly exchange: Exchange;
  readonly batches: AsyncGenerator<string[], void, undefined>;
  readonly decoder: BodyDecoder;
  readonly rights: string | undefined;
  /** Lines that have come, and how many of them have been read. */
  lines: string[];
  taken: number;
  hasTold: boolean;
}

/** Reads one long answer, and opens another one where it ends. */
export class Stream implements Transport {
  readonly #sender: Sender;
  readonly #endpoints: Endpoints;
  readonly #path: string;
  readonly #headMs: number;
  readonly #bodyMs: number;
  #open: Open | undefined;

  /** `path` is the path and query of the stream, below an endpoint. */
  constructor(sender: Sender, endpoints: Endpoints, path: string, timeoutMs: number | undefined) {
    this.#sender = sender;
    this.#endpoints = endpoints;
    this.#path = path;
    this.#headMs = timeoutMs ?? HEAD_LIMIT_MS;
    this.#bodyMs = timeoutMs ?? SILENCE_LIMIT_MS;
  }

  async next(position: Position | undefined): Promise<Answer> {
    if (this.#open === undefined) {
      const failed = await this.#connect(position);
      if (failed !== undefined) return failed;
    }
    const open = this.#open!;
    const part = await this.#read(open);
    if (part === undefined) {
      this.close();
      if (open.decoder.isUnderWay || !open.hasTold) throw new RetryableError("the stream ended too early");
      return { kind: "ended" };
    }
    open.hasTold = true;
    if (part.kind === "reset") {
      if (part.reason === "permission-changed" || part.reason === "token-removed") {
        // The stream ends here. The answer to the next request tells what may be read now.
        this.close();
        return { kind: "ended", reason: `the stream ended, because the rights have changed (${part.reason})` };
      }
      return {
        kind: "gone",
        reason: `the stream was reset: ${part.reason}`,
        rightsChanged: part.reason === "rights-changed",
        stateFollows: true,
      };
    }
    return { kind: "body", body: part, position: { cursor: part.cursor, rights: open.rights }, atOnce: false };
  }

  close(): void {
    this.#open?.exchange.close();
    this.#open = undefined;
  }

  /** Opens a stream; returns an answer where the position cannot be continued. */
  async #connect(position: Position | undefined): Promise<Answer | undefined> {
    let address = this.#endpoints.address(this.#path);
    if (position !== undefined) {
      const rights = position.rights === undefined ? "" : `~${position.rights}`;
      address = withParameter(address, `from=${encodeURIComponent(position.cursor + rights)}`);
    }
    let exchange: Exchange;
    try {
      exchange = await Exchange.send(this.#sender, address, { headMs: this.#headMs, bodyMs: this.#bodyMs });
    } catch (error) {
      if (error instanceof GoneError) {
        return { kind: "gone", reason: error.message, rightsChanged: error.rightsChanged, stateFollows: false };
      }
      throw error;
    }
    if (exchange.status !== 200) {
      exchange.close();
      throw new RetryableError(`${address} answered ${exchange.status}, which is no stream`);
    }
    const rights = exchange.header("crumbd-rights") ?? undefined;
    if (position !== undefined && position.rights === undefined && rights !== undefined && rights !== ALL_RIGHTS) {
      // The daemon had no tokens before, so it cannot know that the state was read under other rights.
      exchange.close();
      return {
        kind: "gone",
        reason: "the daemon grants other rights than before",
        rightsChanged: true,
        stateFollows: false,
      };
    }
    this.#open = {
      exchange,
      batches: exchange.lines(),
      decoder: new BodyDecoder(),
      rights,
      lines: [],
      taken: 0,
      hasTold: false,
    };
    return undefined;
  }

  /** The next body or reset; nothing at the end of the stream. */
  async #read(open: Open): Promise<ReturnType<BodyDecoder["take"]>> {
    for (;;) {
      while (open.taken < open.lines.length) {
        const part = open.decoder.take(open.lines[open.taken++]!);
        if (part !== undefined) return part;
      }
      const batch = await open.batches.next();
      if (batch.done === true) return undefined;
      open.lines = batch.value;
      open.taken = 0;
    }
  }
}

/** The rights to every key. */
const ALL_RIGHTS = "0";

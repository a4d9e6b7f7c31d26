import { type Endpoints, nextLink, withParameter } from "./address.js";
import { type Body, BodyDecoder } from "./body.js";
import { RetryableError } from "./errors.js";
import { Exchange, GoneError, type Sender } from "./exchange.js";
import type { Answer, Position, Transport } from "./transport.js";

const LIMIT_MS = 60_000;
/** The daemon waits for this long by itself. */
const WAIT_MS = 29_000;
/** An answer that came sooner than this did not wait, however short the wait is. */
const AT_ONCE_MS = 100;
/** A daemon takes a little off the wait. */
const PART_OF_WAIT = 0.75;

/** Asks with long polls. */
export class LongPoll implements Transport {
  readonly #sender: Sender;
  readonly #endpoints: Endpoints;
  readonly #current: string;
  readonly #limitMs: number;
  readonly #waitMs: number;

  /** `current` is the path and query, below an endpoint, of the whole state. */
  constructor(sender: Sender, endpoints: Endpoints, current: string, timeoutMs: number | undefined) {
    this.#sender = sender;
    this.#endpoints = endpoints;
    this.#current = current;
    this.#limitMs = timeoutMs ?? LIMIT_MS;
    // Half of the limit, so that an answer without a change comes within it.
    this.#waitMs = Math.min(WAIT_MS, Math.floor(this.#limitMs / 2));
  }

  async next(position: Position | undefined): Promise<Answer> {
    const address =
      position?.link === undefined ? this.#endpoints.address(this.#current) : this.#nextAddress(position.link);
    const startedMs = performance.now();
    let exchange: Exchange | undefined;
    try {
      exchange = await Exchange.send(this.#sender, address, { headMs: this.#limitMs, bodyMs: this.#limitMs });
      const link = nextLink(exchange.header("link"), address);
      if (link === undefined) throw new RetryableError(`the answer of ${address} has no Link with rel="next"`);
      const waitedMs = performance.now() - startedMs;
      const atOnce = position !== undefined && waitedMs < Math.max(AT_ONCE_MS, this.#waitMs * PART_OF_WAIT);
      if (exchange.status === 204) return unchanged(exchange, position, link, atOnce);
      const body = await bodyOf(exchange, address);
      exchange.finish();
      return { kind: "body", body, position: { cursor: body.cursor, link }, atOnce };
    } catch (error) {
      exchange?.close();
      if (error instanceof GoneError) {
        return { kind: "gone", reason: error.message, rightsChanged: error.rightsChanged, stateFollows: false };
      }
      throw error;
    }
  }

  close(): void {
    // Each answer is read to its end, or closed where it fails.
  }

  #nextAddress(link: string): string {
    const address = this.#endpoints.addressOfLink(link);
    return this.#waitMs < WAIT_MS ? withParameter(address, `wait=${this.#waitMs}ms`) : address;
  }
}

function unchanged(exchange: Exchange, position: Position | undefined, link: string, atOnce: boolean): Answer {
  const cursor = exchange.header("crumbd-cursor") ?? position?.cursor;
  if (position === undefined || cursor === undefined)
    throw new RetryableError("the whole state was asked for, and the answer is 204");
  exchange.finish();
  return {
    kind: "unchanged",
    position: { cursor, link },
    status: exchange.header("crumbd-status") ?? undefined,
    atOnce,
  };
}

async function bodyOf(exchange: Exchange, address: string): Promise<Body> {
  const decoder = new BodyDecoder();
  let body: Body | undefined;
  for await (const lines of exchange.lines()) {
    for (const line of lines) {
      const part = decoder.take(line);
      if (part === undefined) continue;
      if (part.kind === "reset") throw new GoneError(`the answer of ${address} is a reset: ${part.reason}`, false);
      if (body !== undefined) throw new RetryableError(`the answer of ${address} has two bodies`);
      body = part;
    }
  }
  if (body === undefined || decoder.isUnderWay) {
    throw new RetryableError(`the answer of ${address} has no \`end\`: it was cut off`);
  }
  return body;
}

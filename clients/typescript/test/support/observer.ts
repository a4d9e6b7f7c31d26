import { follow, type Change, type FollowEvent, type FollowOptions, type RetryableError } from "crumbd";

/** A client whose events a test takes one by one. Every wait has a limit. */
export class Observer implements AsyncDisposable {
  readonly retries: RetryableError[] = [];
  readonly held: number[] = [];
  readonly #events: AsyncGenerator<FollowEvent, void, undefined>;
  readonly #limit = new AbortController();

  constructor(options: FollowOptions) {
    this.#events = follow({
      ...options,
      signal: this.#limit.signal,
      onRetry: (error) => this.retries.push(error),
      onHeld: (size) => this.held.push(size),
    });
  }

  /** The next event. */
  async next(): Promise<FollowEvent> {
    const timer = setTimeout(() => {
      const failures = this.retries.map((error) => error.message).join("; ");
      this.#limit.abort(new Error(`no event came within 20 s; failures: ${failures || "none"}`));
    }, 20_000);
    try {
      const { value } = await this.#events.next();
      if (value === undefined) throw new Error("the client has ended");
      return value;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The changes of the next event, as `new a=1`. */
  async told(): Promise<string[]> {
    return (await this.next()).changes.map(sentence);
  }

  /** Goes on in the background, for a test that looks at the requests. */
  goOn(): void {
    this.next().catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#limit.abort(new Error("the test is over"));
    await this.#events.return();
  }
}

export function sentence(change: Change): string {
  return change.type === "deleted" ? `deleted ${change.key}` : `${change.type} ${change.key}=${change.value}`;
}

/** Waits until a condition holds, for at most 20 s. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  const endMs = performance.now() + 20_000;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`within 20 s it did not happen that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

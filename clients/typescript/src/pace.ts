/** The first pause is at most this long; each is at most half as long again as the one before. */
const FIRST_PAUSE_MS = 500;
const GROWTH = 1.5;
const LONGEST_PAUSE_MS = 30_000;
/** So that no pause is none. */
const SHORTEST_PAUSE_MS = 50;
/** Attempts that may follow each other without waiting for a token, and the time in which a token comes back. */
const TOKENS = 5;
const TOKEN_MS = 2_000;

/**
 * The pauses between attempts that bring nothing.
 *
 * The pause after a failure is random between nothing and a bound that grows with each failure ("full jitter"), so that
 * clients that lost one daemon do not all come back at once. A success resets the bound, so a daemon that fails every
 * other time would be asked in a loop. So there is a bucket of tokens too: each attempt takes one.
 */
export class Pace {
  #failures = 0;
  #tokens = TOKENS;
  #countedAtMs = performance.now();

  /** An answer was applied. */
  succeeded(): void {
    this.#failures = 0;
  }

  /** The pause after a failure. */
  afterFailureMs(): number {
    const bound = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * GROWTH ** this.#failures);
    this.#failures++;
    return Math.min(LONGEST_PAUSE_MS, Math.max(SHORTEST_PAUSE_MS + Math.random() * bound, this.takeTokenMs()));
  }

  /** The pause before a request that the daemon wants to have after this time. */
  afterRefusalMs(retryAfterMs: number): number {
    // A little later, and not all clients at once.
    const spread = SHORTEST_PAUSE_MS + Math.random() * Math.min(5_000, 1_000 + retryAfterMs / 10);
    return Math.max(retryAfterMs + spread, this.takeTokenMs());
  }

  /** The pause before an attempt that need not wait by itself. */
  takeTokenMs(): number {
    const nowMs = performance.now();
    this.#tokens = Math.min(TOKENS, this.#tokens + (nowMs - this.#countedAtMs) / TOKEN_MS);
    this.#countedAtMs = nowMs;
    this.#tokens -= 1;
    return Math.max(0, -this.#tokens * TOKEN_MS);
  }
}

/** Waits. Ends early with the signal's reason where it is aborted. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0) return signal.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}

import { type Change, changeOf } from "./change.js";
import { Key } from "./key.js";
import type { State } from "./state.js";
import type { Value } from "./value.js";

/**
 * What a consumer has yet to be told.
 *
 * For each key that has changed it keeps the value that the consumer knows, however often the key changes. What the key
 * has become is in the state. So the memory is bounded by the number of keys.
 */
export class Conflation {
  readonly #state: State;
  /** What the consumer knows of the keys that have changed, by their `id`. */
  readonly #known = new Map<string, Value | undefined>();
  #wake: (() => void) | undefined;
  #isEnded = false;

  constructor(state: State) {
    this.#state = state;
  }

  /** The consumer begins, and knows nothing yet: all keys are new to it. */
  begin(): void {
    for (const id of this.#state.ids()) this.#known.set(id, undefined);
  }

  /** The consumer has left. */
  end(): void {
    this.#isEnded = true;
    this.wake();
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Notes changes that the state has. */
  add(changes: readonly Change[]): void {
    for (const { key, oldValue } of changes) {
      if (!this.#known.has(key.id)) this.#known.set(key.id, oldValue);
      // The consumer never hears of a key that came and went.
      else if (this.#known.get(key.id) === undefined && this.#state.get(key.id) === undefined)
        this.#known.delete(key.id);
    }
    this.wake();
  }

  /** Ends a wait for changes. */
  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Waits until something is noted, or `wake`. */
  async wait(): Promise<void> {
    if (this.#known.size > 0) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  /** The changes since the last call. */
  take(): Change[] {
    const changes: Change[] = [];
    for (const [id, oldValue] of this.#known) {
      const value = this.#state.get(id);
      if (oldValue !== undefined && value !== undefined && oldValue.equals(value)) continue;
      const change = changeOf(new Key(id), oldValue, value);
      if (change !== undefined) changes.push(change);
    }
    this.#known.clear();
    return changes;
  }
}

import type { Body, Proof } from "./body.js";
import { type Change, changeOf } from "./change.js";
import { Digest } from "./digest.js";
import { MismatchError } from "./errors.js";
import { Key } from "./key.js";
import type { Value } from "./value.js";

/** The status of a daemon whose state is complete. */
export const IN_SYNC = "in-sync";

/**
 * The state that the application sees.
 *
 * It is the daemon's, and beside it the keys that are *held back*. After the whole state was read again while the
 * daemon is not in-sync, a key that it lacks may just not have been read yet. So the key stays until the daemon is
 * in-sync.
 */
export class State {
  /** All values by the `id` of their key, those that are held back too. */
  #values = new Map<string, Value>();
  /** The keys of `#values` that the daemon's state lacks. */
  readonly #heldBack = new Set<string>();
  /** Whether deletions are held back. */
  #isUnsettled = false;
  /** Of the daemon's state. */
  #daemonDigest = new Digest();
  /** Of the keys that are held back. */
  readonly #heldBackDigest = new Digest();
  /** The keys in order; made when it is asked for, and dropped when a key comes or goes. */
  #sorted: string[] | undefined;

  get size(): number {
    return this.#values.size;
  }

  get digest(): string {
    const digest = this.#heldBack.size === 0 ? this.#daemonDigest : this.#daemonDigest.plus(this.#heldBackDigest);
    return digest.toString();
  }

  get(id: string): Value | undefined {
    return this.#values.get(id);
  }

  ids(): IterableIterator<string> {
    return this.#values.keys();
  }

  /** The keys with a prefix, in key order. */
  idsWithPrefix(prefix: string): string[] {
    this.#sorted ??= [...this.#values.keys()].sort(); // by UTF-16 units, which are bytes here
    const sorted = this.#sorted;
    if (prefix === "") return sorted.slice();
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sorted[middle]! < prefix) low = middle + 1;
      else high = middle;
    }
    let end = low;
    while (end < sorted.length && sorted[end]!.startsWith(prefix)) end++;
    return sorted.slice(low, end);
  }

  /** The digest of a whole state. Throws a `MismatchError` where it or the count is not what the daemon names. */
  static check(body: Body): Digest {
    const digest = new Digest();
    for (const [id, value] of body.values) if (value !== undefined) digest.add(id, value);
    verify(body.proofs, body.values.size, digest);
    return digest;
  }

  /** Replaces the daemon's state with one that was read whole and checked. Returns the difference. */
  replace(body: Body, digest: Digest): Change[] {
    const changes: Change[] = [];
    const before = this.#values;
    const after = new Map<string, Value>();
    for (const [id, value] of body.values) {
      if (value === undefined) continue;
      after.set(id, value);
      const oldValue = before.get(id);
      if (oldValue === undefined || !oldValue.equals(value)) push(changes, id, oldValue, value);
    }
    for (const id of this.#heldBack) this.#release(id);
    this.#values = after;
    this.#daemonDigest = digest;
    this.#sorted = undefined;
    this.#isUnsettled = before.size > 0;
    for (const [id, value] of before) {
      if (after.has(id)) continue;
      after.set(id, value);
      this.#holdBack(id, value);
    }
    return changes.concat(this.settle(body.status));
  }

  /**
   * Applies updates. Throws a `MismatchError`, and changes nothing, where they do not lead to the count and digest that
   * the daemon names.
   */
  update(body: Body): Change[] {
    const digest = this.#daemonDigest.clone();
    let count = this.#values.size - this.#heldBack.size;
    for (const [id, value] of body.values) {
      const oldValue = this.#heldBack.has(id) ? undefined : this.#values.get(id);
      if (oldValue !== undefined) digest.remove(id, oldValue);
      if (value !== undefined) digest.add(id, value);
      count += Number(value !== undefined) - Number(oldValue !== undefined);
    }
    verify(body.proofs, count, digest);
    this.#daemonDigest = digest;

    const changes: Change[] = [];
    const holdsBack = this.#isUnsettled && body.status !== IN_SYNC;
    for (const [id, value] of body.values) {
      const oldValue = this.#values.get(id);
      if (value === undefined) {
        if (oldValue === undefined || this.#heldBack.has(id)) continue;
        if (holdsBack) {
          this.#holdBack(id, oldValue);
          continue;
        }
      } else if (this.#release(id) && oldValue?.equals(value)) {
        continue; // the application knows this value
      }
      this.#set(id, value);
      push(changes, id, oldValue, value);
    }
    return changes.concat(this.settle(body.status));
  }

  /** Ends the holding back of deletions where this status allows it. Returns them. */
  settle(status: string): Change[] {
    if (status !== IN_SYNC) return [];
    this.#isUnsettled = false;
    const changes: Change[] = [];
    for (const id of this.#heldBack) {
      const oldValue = this.#values.get(id);
      this.#release(id);
      this.#set(id, undefined);
      push(changes, id, oldValue, undefined);
    }
    return changes;
  }

  #holdBack(id: string, value: Value): void {
    this.#heldBack.add(id);
    this.#heldBackDigest.add(id, value);
  }

  /** Returns whether the key was held back. */
  #release(id: string): boolean {
    const value = this.#values.get(id);
    if (value === undefined || !this.#heldBack.delete(id)) return false;
    this.#heldBackDigest.remove(id, value);
    return true;
  }

  #set(id: string, value: Value | undefined): void {
    const size = this.#values.size;
    if (value === undefined) this.#values.delete(id);
    else this.#values.set(id, value);
    if (this.#values.size !== size) this.#sorted = undefined;
  }
}

function verify(proofs: readonly Proof[], count: number, digest: Digest): void {
  const found = proofs.some((proof) => proof.digest !== undefined) ? digest.toString() : "";
  for (const proof of proofs) {
    if (proof.count !== undefined && proof.count !== count) {
      throw new MismatchError(`the state would have ${count} keys, the daemon says ${proof.count}`);
    }
    if (proof.digest !== undefined && proof.digest !== found) {
      throw new MismatchError(`the digest of the state would be ${found}, the daemon says ${proof.digest}`);
    }
  }
}

function push(changes: Change[], id: string, oldValue: Value | undefined, value: Value | undefined): void {
  const change = changeOf(new Key(id), oldValue, value);
  if (change !== undefined) changes.push(change);
}

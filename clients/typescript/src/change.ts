import type { Key } from "./key.js";
import type { Value } from "./value.js";

/** What happened to one key, relative to what the application was told before. */
export type Change = NewChange | UpdatedChange | DeletedChange;

export interface NewChange {
  readonly type: "new";
  readonly key: Key;
  readonly value: Value;
  readonly oldValue?: undefined;
}

export interface UpdatedChange {
  readonly type: "updated";
  readonly key: Key;
  readonly value: Value;
  readonly oldValue: Value;
}

export interface DeletedChange {
  readonly type: "deleted";
  readonly key: Key;
  readonly value?: undefined;
  readonly oldValue: Value;
}

/** The change from one value of a key to another; `undefined` where there was none before and is none after. */
export function changeOf(key: Key, oldValue: Value | undefined, value: Value | undefined): Change | undefined {
  if (value !== undefined) {
    return oldValue === undefined ? { type: "new", key, value } : { type: "updated", key, value, oldValue };
  }
  return oldValue === undefined ? undefined : { type: "deleted", key, oldValue };
}

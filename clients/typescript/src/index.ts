/**
 * Client of crumbd. `Mirror` holds a copy of the state; `follow` is an iterator of its changes.
 *
 * The way of the data: `poll` or `stream` asks through an `exchange`, `body` puts the records of an answer together,
 * `state` checks them against the digest and applies them, and `follower` drives all of it and goes on after failures.
 */
export { follow } from "./follow.js";
export type { FollowEvent } from "./follower.js";
export type { FollowOptions } from "./options.js";
export { type Entry, Mirror, type MirrorEvents } from "./mirror.js";
export type { TypedMirror } from "./typed_mirror.js";
export type { Change, DeletedChange, NewChange, UpdatedChange } from "./change.js";
export { Key, type KeyLike } from "./key.js";
export { Value } from "./value.js";
export { FatalError, MismatchError, RetryableError } from "./errors.js";

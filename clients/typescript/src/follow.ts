import { type FollowEvent, Follower } from "./follower.js";
import { interruptible } from "./interruptible.js";
import { type FollowOptions, optionsOf } from "./options.js";

/**
 * Follows a daemon for ever. The first event is the whole state, and each later one what has changed since.
 *
 * The daemon is asked only while an event is waited for. What has changed while the application was busy comes
 * together, with the last value of each key. Failures are handled inside (`onRetry` is told of them). It ends by `break`
 * or `return()`, also while it is waited for, by the signal, or with a `FatalError`.
 */
export function follow(target: string | FollowOptions): AsyncGenerator<FollowEvent, void, undefined> {
  const follower = new Follower(optionsOf(target)); // here, so that wrong options throw at once
  return interruptible(events(follower), () => follower.close());
}

async function* events(follower: Follower): AsyncGenerator<FollowEvent, void, undefined> {
  try {
    for (;;) yield await follower.next();
  } catch (error) {
    if (!follower.isClosed) throw error;
  } finally {
    follower.close();
  }
}

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { follow, Mirror } from "crumbd";
import { stateBody, updatesBody } from "./support/bodies.js";
import { until } from "./support/observer.js";
import { answer, ScriptedDaemon, type Step, stream } from "./support/scripted_daemon.js";

/** The listeners that a signal has. */
function counted(signal: AbortSignal): () => number {
  let count = 0;
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  signal.addEventListener = (...args: Parameters<typeof add>): void => {
    count++;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>): void => {
    count--;
    remove(...args);
  };
  return () => count;
}

function steps(transport: "poll" | "stream", updates: number): Step[] {
  const states = Array.from({ length: updates + 1 }, (_, i) => ({ a: String(i) }));
  const bodies = states.map((state, i) =>
    i === 0 ? stateBody("c0", state) : updatesBody(`c${i}`, states[i - 1]!, state),
  );
  return transport === "stream" ? [stream(...bodies)] : bodies.map((body, i) => answer(`c${i}`, body));
}

for (const transport of ["poll", "stream"] as const) {
  describe(`a client that is left (${transport})`, () => {
    test("by return() while it is waited for, ends", async () => {
      await using daemon = await ScriptedDaemon.start(...steps(transport, 0));
      const events = follow({ url: daemon.url, transport });
      await events.next();
      const waiting = events.next();
      assert.deepEqual(await events.return(), { value: undefined, done: true });
      assert.deepEqual(await waiting, { value: undefined, done: true });
      assert.deepEqual(await events.next(), { value: undefined, done: true });
    });

    test("by break, before its first event, or never, leaves nothing at the signal", async () => {
      await using daemon = await ScriptedDaemon.start(...steps(transport, 200));
      const { signal } = new AbortController();
      const listeners = counted(signal);
      const options = { url: daemon.url, transport, signal };
      follow(options);
      await follow(options).return();
      for await (const event of follow(options)) if (event.cursor === "c200") break;
      assert.equal(listeners(), 0);
    });
  });
}

test("a consumer of changes that is left while it waits, ends, and the mirror goes on", async () => {
  await using daemon = await ScriptedDaemon.start(...steps("poll", 0));
  const mirror = new Mirror(daemon.url).start();
  await mirror.waitForSync();
  const changes = mirror.changes();
  await changes.next();
  const waiting = changes.next();
  assert.deepEqual(await changes.return(), { value: undefined, done: true });
  assert.deepEqual(await waiting, { value: undefined, done: true });
  daemon.play(answer("c1", updatesBody("c1", { a: "0" }, { a: "1" })));
  await until("the mirror has the update", () => mirror.cursor === "c1");
  mirror.close();
});

test("a wait without a limit has none", async () => {
  await using daemon = await ScriptedDaemon.start();
  const mirror = new Mirror(daemon.url);
  await assert.rejects(mirror.waitForSync({ timeoutMs: 1 }), /it was not started/);
  await assert.rejects(mirror.waitForSync({ timeoutMs: Number.NaN }), TypeError);
  const synced = mirror.start().waitForSync({ timeoutMs: Infinity });
  daemon.play(...steps("poll", 0));
  await synced;
  mirror.close();
});

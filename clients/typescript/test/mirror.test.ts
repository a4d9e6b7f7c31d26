import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type Change, FatalError, Mirror, type MirrorEvents } from "crumbd";
import { digestOf, stateBody, updatesBody } from "./support/bodies.js";
import { sentence, until } from "./support/observer.js";
import { answer, refusal, ScriptedDaemon } from "./support/scripted_daemon.js";

const first = { a: "1", b: "2" };
const firstAnswer = answer("c1", stateBody("c1", first));

suite("a mirror", { concurrency: true }, () => {
  test("has the state, and calls its listeners", async () => {
    const to = { a: "1", b: "3", c: "4" };
    await using daemon = await ScriptedDaemon.start(firstAnswer);
    const mirror = new Mirror(daemon.url);
    const heard: string[] = [];
    mirror.on("new", (change) => heard.push(sentence(change)));
    mirror.on("updated", (change) => heard.push(`${sentence(change)} was ${change.oldValue}`));
    mirror.on("deleted", (change) => heard.push(`${sentence(change)} was ${change.oldValue}`));
    mirror.on("status", (status) => heard.push(status));
    const removed = mirror.on("changes", () => heard.push("removed"));
    removed();
    assert.deepEqual([mirror.synced, mirror.size, mirror.cursor], [false, 0, undefined]);
    await mirror.start().waitForSync();
    assert.deepEqual(heard.splice(0), ["new a=1", "new b=2", "in-sync"]);
    daemon.play(answer("c2", updatesBody("c2", first, to)), answer("c3", updatesBody("c3", to, { c: "4" })));
    await until("the mirror has the last state", () => mirror.cursor === "c3");
    assert.deepEqual(heard, ["updated b=3 was 2", "new c=4", "deleted a was 1", "deleted b was 3"]);
    assert.deepEqual([mirror.get("a"), mirror.get("c")?.text], [undefined, "4"]);
    assert.deepEqual([mirror.digest, mirror.size, mirror.synced], [digestOf({ c: "4" }), 1, true]);
    mirror.close();
    assert.equal(mirror.get("c")?.text, "4");
  });

  test("tells a slow consumer the last value of each key, and nothing of keys that came and went", async () => {
    await using daemon = await ScriptedDaemon.start(firstAnswer);
    const mirror = new Mirror(daemon.url).start();
    await mirror.waitForSync();
    const changes = mirror.changes();
    const next = async (): Promise<string[]> => ((await changes.next()).value as Change[]).map(sentence).sort();
    assert.deepEqual(await next(), ["new a=1", "new b=2"]);
    const states = [
      first,
      { a: "5", b: "2", x: "1" },
      { a: "6", x: "2" },
      { a: "6", b: "2", c: "1" },
      { a: "7", b: "2", c: "2" },
    ];
    for (const [i, state] of states.slice(1).entries()) {
      const cursor = `c${i + 2}`;
      daemon.play(answer(cursor, updatesBody(cursor, states[i]!, state)));
    }
    await until("the mirror has the last state", () => mirror.cursor === "c5");
    assert.deepEqual(await next(), ["new c=2", "updated a=7"]);
    const waiting = next();
    daemon.play(answer("c6", updatesBody("c6", states[4]!, {})));
    assert.deepEqual(await waiting, ["deleted a", "deleted b", "deleted c"]);
    const end = changes.next();
    mirror.close();
    assert.equal((await end).done, true);
  });

  test("decodes each value once", async () => {
    await using daemon = await ScriptedDaemon.start(
      answer("c1", stateBody("c1", { "p/a": '{"n":1}', "p/b": "no JSON" })),
    );
    const mirror = new Mirror(daemon.url).start();
    await mirror.waitForSync();
    let decoded = 0;
    const typed = mirror.typed((value) => {
      decoded++;
      return value.json<{ n: number }>().n;
    });
    assert.deepEqual([typed.get("p/a"), typed.get("p/a"), typed.get("none"), decoded], [1, 1, undefined, 1]);
    assert.deepEqual(
      typed.list("p/a").map(({ key, value }) => `${key} ${value}`),
      ["p/a 1"],
    );
    assert.throws(() => typed.get("p/b"), SyntaxError);
    mirror.close();
  });

  test("ends with the daemon's refusal, and tells everybody who waits", async () => {
    await using daemon = await ScriptedDaemon.start(refusal(401));
    const mirror = new Mirror(daemon.url).start();
    const changes = mirror.changes().next();
    const errors: MirrorEvents["error"][] = [];
    mirror.on("error", (error) => errors.push(error));
    await assert.rejects(mirror.waitForSync(), FatalError);
    await assert.rejects(changes, FatalError);
    await assert.rejects(mirror.waitForSync(), FatalError);
    assert.deepEqual([mirror.error instanceof FatalError, errors.length], [true, 1]);
  });

  test("goes on after failures, and says so", async () => {
    await using daemon = await ScriptedDaemon.start(refusal(502), firstAnswer);
    const mirror = new Mirror(daemon.url);
    const failures: string[] = [];
    mirror.on("retry", ({ error }) => failures.push(error.message));
    await mirror.start().waitForSync();
    assert.match(failures[0] ?? "", /answered 502: this is why it is 502/);
    mirror.close();
  });

  test("waits for the daemon with a limit", async () => {
    const status = "wait-for-datastore";
    await using daemon = await ScriptedDaemon.start(answer("c1", stateBody("c1", {}, { status })));
    const mirror = new Mirror(daemon.url).start();
    await assert.rejects(mirror.waitForSync({ timeoutMs: 200 }), {
      name: "TimeoutError",
      message: /wait-for-datastore/,
    });
    const controller = new AbortController();
    const aborted = mirror.waitForSync({ signal: controller.signal });
    controller.abort(new Error("enough"));
    await assert.rejects(aborted, /enough/);
    const closed = mirror.waitForSync();
    mirror.close();
    await assert.rejects(closed, /was closed/);
  });

  test("ends with its signal", async () => {
    await using daemon = await ScriptedDaemon.start(firstAnswer);
    const controller = new AbortController();
    const mirror = new Mirror({ url: daemon.url, signal: controller.signal }).start();
    await mirror.waitForSync();
    const changes = mirror.changes();
    await changes.next();
    const end = changes.next();
    controller.abort();
    assert.equal((await end).done, true);
    assert.equal(mirror.error, undefined);
  });
});

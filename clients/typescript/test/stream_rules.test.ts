import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { FatalError, MismatchError } from "crumbd";
import { digestOf, lines, stateBody, updatesBody } from "./support/bodies.js";
import { Observer, sentence, until } from "./support/observer.js";
import { endedStream, refusal, ScriptedDaemon, type Step, stream } from "./support/scripted_daemon.js";

const STREAM = "/v1/stream";
const from = (cursor: string): string => `${STREAM}?from=${cursor}`;
const first = { a: "1", b: "2" };
const firstBody = stateBody("c1", first);
const reset = (reason: string): string => JSON.stringify({ type: "reset", reason }) + "\n";

/** A stream that breaks after these pieces. */
function brokenStream(...pieces: readonly string[]): Step {
  return (response, request) => {
    stream(...pieces)(response, request);
    response.write("\n", () => response.destroy());
  };
}

suite("a client with a stream", { concurrency: true }, () => {
  test("tells the state, and then each change", async () => {
    const to = { a: "1", b: "3", é: "ü" };
    await using daemon = await ScriptedDaemon.start((response, request) => {
      stream(firstBody)(response, request);
      // Byte by byte, so that characters and lines come in pieces.
      const bytes = Buffer.from(updatesBody("c2", first, to, { unproved: true }));
      const write = (at: number): void => {
        if (at < bytes.length) response.write(bytes.subarray(at, at + 1), () => setImmediate(write, at + 1));
      };
      write(0);
    });
    await using client = new Observer({ url: daemon.url, transport: "stream" });
    assert.deepEqual(await client.told(), ["new a=1", "new b=2"]);
    assert.deepEqual(await client.told(), ["updated b=3", "new é=ü"]);
    assert.deepEqual(daemon.paths, [STREAM]);
  });

  test("applies nothing of a body that is cut off, and continues from its cursor", async () => {
    const body = updatesBody("c2", first, { a: "1" });
    await using daemon = await ScriptedDaemon.start(
      brokenStream(firstBody, body.slice(0, -20)),
      endedStream(body.slice(0, body.indexOf('{"type":"end"'))),
      endedStream(),
      refusal(503, { "retry-after": "1" }),
      stream(body),
    );
    await using client = new Observer({ url: daemon.url, transport: "stream" });
    await client.next();
    assert.deepEqual(await client.told(), ["deleted b"]);
    assert.equal(client.retries.length, 4);
    assert.deepEqual(daemon.paths, [STREAM, ...Array<string>(4).fill(from("c1"))]);
    assert.ok(daemon.asked[4]!.atMs - daemon.asked[3]!.atMs >= 1_000);
  });

  test("opens another stream where one ends between two bodies", async () => {
    await using daemon = await ScriptedDaemon.start(
      endedStream(firstBody),
      stream(updatesBody("c2", first, { a: "1" })),
    );
    await using client = new Observer({ url: daemon.url, transport: "stream" });
    await client.next();
    assert.deepEqual(await client.told(), ["deleted b"]);
    assert.deepEqual([daemon.paths, client.retries], [[STREAM, from("c1")], []]);
  });

  test("reads the state again after a wrong digest", async () => {
    const to = { a: "9" };
    await using daemon = await ScriptedDaemon.start(
      stream(firstBody, updatesBody("c2", first, to, { digest: "f".repeat(32) })),
      stream(stateBody("c2", to)),
    );
    await using client = new Observer({ url: daemon.url, transport: "stream" });
    await client.next();
    assert.deepEqual(await client.told(), ["updated a=9", "deleted b"]);
    assert.ok(client.retries[0] instanceof MismatchError);
    assert.deepEqual(daemon.paths, [STREAM, STREAM]);
  });

  test("tells the difference after a reset, also where the stream breaks before the new state", async () => {
    await using daemon = await ScriptedDaemon.start(
      stream(firstBody, reset("cursor-gone"), stateBody("d1", { b: "2", c: "3" }), reset("cursor-gone")),
    );
    await using client = new Observer({ url: daemon.url, transport: "stream", timeoutMs: 1_000 });
    await client.next();
    const event = await client.next();
    assert.deepEqual(event.changes.map(sentence), ["new c=3", "deleted a"]);
    assert.equal(event.resync, true);
    daemon.play(stream(stateBody("e1", { c: "3" })));
    assert.deepEqual(await client.told(), ["deleted b"]);
    assert.deepEqual(daemon.paths, [STREAM, STREAM]);
  });

  test("holds deletions back until the daemon is in-sync", async () => {
    const status = "resync-in-progress";
    await using daemon = await ScriptedDaemon.start(
      stream(
        firstBody,
        reset("cursor-gone"),
        stateBody("d1", { c: "3" }, { status }),
        updatesBody("d1", { c: "3" }, { c: "3" }),
      ),
    );
    await using client = new Observer({ url: daemon.url, transport: "stream" });
    await client.next();
    const event = await client.next();
    assert.deepEqual(event.changes.map(sentence), ["new c=3"]);
    assert.equal(event.digest, digestOf({ ...first, c: "3" }));
    assert.deepEqual(await client.told(), ["deleted a", "deleted b"]);
  });

  test("keeps its keys where the new state is empty, and asks for another", async () => {
    await using daemon = await ScriptedDaemon.start(
      stream(firstBody, reset("cursor-gone"), stateBody("d1", {})),
      stream(stateBody("d2", { a: "1" })),
    );
    await using client = new Observer({ url: daemon.url, transport: "stream" });
    await client.next();
    assert.deepEqual(await client.told(), ["deleted b"]);
    assert.deepEqual([client.held, daemon.paths], [[2], [STREAM, STREAM]]);
  });

  test("moves its cursor by a heartbeat, under the rights of its stream and a prefix", async () => {
    const heartbeat = lines("breadcrumb", "c5", [], {}).replace('"mode":"delta"', '"mode":"none"');
    const withRights: Step = (response, request) => {
      response.setHeader("crumbd-rights", "abc");
      endedStream(stateBody("c1", { pa: "1" }, { unproved: true }), "\n", heartbeat)(response, request);
    };
    await using daemon = await ScriptedDaemon.start(withRights);
    await using client = new Observer({ url: daemon.url + "/base", transport: "stream", prefix: "p" });
    await client.next();
    client.goOn();
    await until("it came back", () => daemon.asked.length === 2);
    assert.deepEqual(daemon.paths, ["/base/v1/stream?prefix=p", "/base/v1/stream?prefix=p&from=c5~abc"]);
  });

  test("asks again after a reset because of its rights, and ends at the refusal", async () => {
    await using daemon = await ScriptedDaemon.start(endedStream(firstBody, reset("permission-changed")), refusal(403));
    await using client = new Observer({ url: daemon.url, transport: "stream" });
    await client.next();
    await assert.rejects(client.next(), FatalError);
    assert.match(client.retries[0]?.message ?? "", /rights have changed \(permission-changed\)/);
  });

  test("takes an empty state over where its rights were narrowed", async () => {
    await using daemon = await ScriptedDaemon.start(
      endedStream(firstBody, reset("permission-changed")),
      stream(reset("cursor-gone"), stateBody("d1", {})),
    );
    await using client = new Observer({ url: daemon.url, transport: "stream" });
    await client.next();
    assert.deepEqual(await client.told(), ["deleted a", "deleted b"]);
    assert.deepEqual(client.held, []);
  });

  test("gives up a stream that is silent, and not one with heartbeats", async () => {
    const beating: Step = (response, request) => {
      stream(firstBody)(response, request);
      let beats = 0;
      const timer = setInterval(() => {
        response.write("\n");
        if (++beats === 10) clearInterval(timer);
      }, 250);
    };
    await using daemon = await ScriptedDaemon.start(beating, stream(updatesBody("c2", first, {})));
    await using client = new Observer({ url: daemon.url, transport: "stream", timeoutMs: 1_000 });
    await client.next();
    const startedMs = performance.now();
    await client.next();
    assert.ok(performance.now() - startedMs > 3_000, "it was given up while it had heartbeats");
    assert.match(client.retries[0]?.message ?? "", /sent no more of its answer for 1000 ms/);
    assert.deepEqual(daemon.paths, [STREAM, from("c1")]);
  });

  test("ignores records that it does not know", async () => {
    const body = firstBody.replace('{"type":"new"', '{"type":"note"}\n{"type":"new"');
    await using daemon = await ScriptedDaemon.start(stream('{"type":"hello"}\n', body));
    await using client = new Observer({ url: daemon.url, transport: "stream" });
    assert.deepEqual(await client.told(), ["new a=1", "new b=2"]);
  });
});

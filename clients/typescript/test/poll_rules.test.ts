import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { gzipSync } from "node:zlib";
import { FatalError, follow, MismatchError } from "crumbd";
import { digestOf, lines, stateBody, updatesBody } from "./support/bodies.js";
import { Observer, sentence, until } from "./support/observer.js";
import { answer, cutOff, headersAt, refusal, ScriptedDaemon, type Step, unchanged } from "./support/scripted_daemon.js";

const CURRENT = "/v1/breadcrumbs/current";
const next = (cursor: string): string => `/v1/breadcrumbs/${cursor}/next`;
const first = { a: "1", b: "2" };
const firstAnswer = answer("c1", stateBody("c1", first));

suite("a client with long polls", { concurrency: true }, () => {
  test("tells the state, and then each change with its type and old value", async () => {
    const to = { a: "1", b: "3", c: "4" };
    await using daemon = await ScriptedDaemon.start(
      firstAnswer,
      answer("c2", updatesBody("c2", first, to)),
      answer("c3", updatesBody("c3", to, { b: "3" })),
    );
    await using client = new Observer({ url: daemon.url });
    const event = await client.next();
    assert.deepEqual(event.changes.map(sentence), ["new a=1", "new b=2"]);
    assert.deepEqual([event.cursor, event.status, event.size, event.resync], ["c1", "in-sync", 2, false]);
    assert.equal(event.digest, digestOf(first));
    const second = await client.next();
    assert.deepEqual(second.changes.map(sentence), ["updated b=3", "new c=4"]);
    assert.equal(second.changes[0]?.oldValue?.text, "2");
    assert.deepEqual(await client.told(), ["deleted a", "deleted c"]);
    assert.deepEqual(daemon.paths.slice(0, 3), [CURRENT, next("c1"), next("c2")]);
  });

  test("applies nothing of a body that is cut off, and asks again from the old cursor", async () => {
    const body = updatesBody("c2", first, { a: "5" });
    const lengths = [0, 10, body.length - 40, body.length - 1];
    const withoutEnd = body.slice(0, body.indexOf('{"type":"end"'));
    await using daemon = await ScriptedDaemon.start(
      firstAnswer,
      ...lengths.map((length) => cutOff("c2", body, length)),
      answer("c2", withoutEnd),
      (response) => response.socket?.destroy(),
      answer("c2", body),
    );
    await using client = new Observer({ url: daemon.url });
    await client.next();
    assert.deepEqual(await client.told(), ["updated a=5", "deleted b"]);
    assert.equal(client.retries.length, 6);
    assert.deepEqual(daemon.paths, [CURRENT, ...Array<string>(7).fill(next("c1"))]);
  });

  test("shows nothing of an answer with a wrong digest, reads the state again, and tells the difference", async () => {
    const to = { a: "1", b: "9", c: "1" };
    await using daemon = await ScriptedDaemon.start(
      firstAnswer,
      answer("c2", updatesBody("c2", first, to, { digest: "0".repeat(32) })),
      answer("c2", stateBody("c2", to)),
      answer("c3", lines("breadcrumb", "c3", [], { count: 17 })),
      answer("c3", stateBody("c3", first)),
    );
    await using client = new Observer({ url: daemon.url });
    await client.next();
    const event = await client.next();
    assert.deepEqual(event.changes.map(sentence), ["updated b=9", "new c=1"]);
    assert.equal(event.resync, true);
    assert.ok(client.retries[0] instanceof MismatchError);
    assert.deepEqual(await client.told(), ["updated b=2", "deleted c"]);
    assert.deepEqual(daemon.paths, [CURRENT, next("c1"), CURRENT, next("c2"), CURRENT]);
  });

  test("continues from its cursor after a restart of the daemon", async () => {
    await using daemon = await ScriptedDaemon.start(firstAnswer);
    await using client = new Observer({ url: daemon.url });
    await client.next();
    const told = client.told();
    await until("the client waits", () => daemon.asked.length === 2);
    const { port } = daemon;
    await daemon.stop();
    daemon.play(answer("c2", updatesBody("c2", first, { a: "1" })));
    await daemon.listen(port);
    assert.deepEqual(await told, ["deleted b"]);
    assert.deepEqual(daemon.paths, [CURRENT, next("c1"), next("c1")]);
  });

  test("takes path and query of the link to another replica", async () => {
    const link = '</base/elsewhere/x?prefix=%ff&rights=7>; title="a, b"; rel="next", </z>; rel="prev"';
    await using second = await ScriptedDaemon.start(answer("c2", updatesBody("c2", first, { a: "1" })));
    await using daemon = await ScriptedDaemon.start(answer("c1", stateBody("c1", first), { link }), (response) =>
      response.socket?.destroy(),
    );
    await using client = new Observer({ url: [`${daemon.url}/base/`, `${second.url}/base`] });
    await client.next();
    assert.deepEqual(await client.told(), ["deleted b"]);
    const path = "/base/elsewhere/x?prefix=%ff&rights=7";
    assert.deepEqual(daemon.paths, ["/base" + CURRENT, path]);
    assert.deepEqual(second.paths, [path]);
  });

  test("resolves a relative link against the address that was asked", async () => {
    await using daemon = await ScriptedDaemon.start(
      answer("c1", stateBody("c1", first), { link: "<x/next>; rel=next" }),
    );
    await using client = new Observer({ url: daemon.url });
    await client.next();
    client.goOn();
    await until("the link is followed", () => daemon.paths.includes("/v1/breadcrumbs/x/next"));
  });

  test("follows the cursor of a 204, and takes an answer without a link for none", async () => {
    const withoutLink: Step = (response) => {
      const { link: _, ...headers } = headersAt("c9");
      response.writeHead(200, headers).end(updatesBody("c9", first, {}));
    };
    await using daemon = await ScriptedDaemon.start(firstAnswer, unchanged("c2"), withoutLink, unchanged("c3"));
    await using client = new Observer({ url: daemon.url });
    await client.next();
    client.goOn();
    await until("the cursor moved on", () => daemon.paths.at(-1) === next("c3"));
    assert.deepEqual(daemon.paths, [CURRENT, next("c1"), next("c2"), next("c2"), next("c3")]);
  });

  test("reads the state again after 410, also one of a lower revision, and tells the difference", async () => {
    const lower = stateBody("c0", { b: "2", c: "3" }).replaceAll('"revision":7', '"revision":1');
    await using daemon = await ScriptedDaemon.start(firstAnswer, refusal(410), answer("c0", lower));
    await using client = new Observer({ url: daemon.url });
    await client.next();
    const event = await client.next();
    assert.deepEqual(event.changes.map(sentence), ["new c=3", "deleted a"]);
    assert.deepEqual([event.resync, client.retries.length], [true, 0]);
    assert.deepEqual(daemon.paths, [CURRENT, next("c1"), CURRENT]);
  });

  test("reads the state again when its rights change while it waits", async () => {
    const changed = refusal(403, {}, "permission-changed");
    await using daemon = await ScriptedDaemon.start(firstAnswer, changed, answer("c2", stateBody("c2", { a: "9" })));
    await using client = new Observer({ url: daemon.url });
    await client.next();
    assert.equal((await client.next()).resync, true);
    assert.deepEqual(daemon.paths, [CURRENT, next("c1"), CURRENT]);
  });

  test("after a resync tells deletions only when the daemon is in-sync", async () => {
    const status = "resync-in-progress";
    const [second, third] = [
      { b: "2", c: "3" },
      { c: "3", d: "4" },
    ];
    await using daemon = await ScriptedDaemon.start(
      answer("c1", stateBody("c1", { ...first, x: "0" })),
      refusal(410),
      answer("c2", stateBody("c2", second, { status })),
      answer("c3", updatesBody("c3", second, third, { status })),
      answer("c4", updatesBody("c4", third, { ...third, x: "0" }, { status })),
      answer("c5", updatesBody("c5", { ...third, x: "0" }, { ...third, x: "0" })),
    );
    await using client = new Observer({ url: daemon.url });
    await client.next();
    const resync = await client.next();
    assert.deepEqual(resync.changes.map(sentence), ["new c=3"]);
    assert.deepEqual([resync.size, resync.digest], [4, digestOf({ ...first, c: "3", x: "0" })]);
    const updates = await client.next();
    assert.deepEqual(updates.changes.map(sentence), ["new d=4"]);
    assert.equal(updates.digest, digestOf({ ...first, c: "3", d: "4", x: "0" }));
    const settled = await client.next();
    assert.deepEqual(settled.changes.map(sentence).sort(), ["deleted a", "deleted b"]);
    assert.deepEqual([settled.status, settled.digest], ["in-sync", digestOf({ ...third, x: "0" })]);
  });

  test("keeps its keys where the state is read again and is empty", async () => {
    await using daemon = await ScriptedDaemon.start(
      firstAnswer,
      refusal(410),
      answer("e1", stateBody("e1", {})),
      answer("e2", stateBody("e2", {})),
      answer("c2", stateBody("c2", { a: "1" })),
      answer("c3", updatesBody("c3", { a: "1" }, {})),
    );
    await using client = new Observer({ url: daemon.url });
    await client.next();
    assert.deepEqual(await client.told(), ["deleted b"]);
    assert.deepEqual(client.held, [2, 2]);
    assert.deepEqual(daemon.paths, [CURRENT, next("c1"), CURRENT, CURRENT, CURRENT]);
    assert.deepEqual(await client.told(), ["deleted a"], "an ordinary deletion of the last key");
  });

  test("tells the deletions of an empty state where the application agreed", async () => {
    await using daemon = await ScriptedDaemon.start(firstAnswer, refusal(410), answer("e1", stateBody("e1", {})));
    await using client = new Observer({ url: daemon.url, allowEmpty: true });
    await client.next();
    assert.deepEqual(await client.told(), ["deleted a", "deleted b"]);
    assert.deepEqual(client.held, []);
  });

  for (const status of [429, 503]) {
    test(`asks the same again as late as the Retry-After of a ${status} says`, async () => {
      await using daemon = await ScriptedDaemon.start(firstAnswer, refusal(status, { "retry-after": "2" }));
      await using client = new Observer({ url: daemon.url });
      await client.next();
      client.goOn();
      await until("the request came again", () => daemon.asked.length === 3);
      const waitedMs = daemon.asked[2]!.atMs - daemon.asked[1]!.atMs;
      assert.ok(waitedMs >= 2_000 && waitedMs <= 12_000, `it came after ${waitedMs} ms`);
      assert.equal(daemon.paths[2], next("c1"));
    });
  }

  test("asks at most ten times in the first 5 s of an outage", async () => {
    await using daemon = await ScriptedDaemon.start(firstAnswer, ...Array<Step>(200).fill(refusal(502)));
    await using client = new Observer({ url: daemon.url });
    await client.next();
    client.goOn();
    await until("the outage began", () => daemon.asked.length > 1);
    const startedMs = daemon.asked[1]!.atMs;
    await until("the outage has lasted for 5 s", () => performance.now() - startedMs > 5_000);
    const times = daemon.asked.slice(1).map(({ atMs }) => atMs - startedMs);
    assert.ok(times.length >= 3 && times.length <= 10, `it asked at ${times.join(", ")} ms`);
  });

  test("asks in no loop where a daemon answers and fails by turns", async () => {
    const again = (cursor: string): Step => answer(cursor, stateBody(cursor, first));
    const turns = Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? refusal(410) : again(`c${i}`)));
    await using daemon = await ScriptedDaemon.start(firstAnswer, ...turns);
    await using client = new Observer({ url: daemon.url });
    const startedMs = performance.now();
    for (let i = 0; i < 4; i++) await client.next();
    client.goOn();
    await until("3 s have passed", () => performance.now() - startedMs > 3_000);
    assert.ok(daemon.asked.length < 20, `it asked ${daemon.asked.length} times`);
  });

  for (const status of [400, 401, 403, 404, 406]) {
    test(`ends at ${status} with the daemon's sentence`, async () => {
      await using daemon = await ScriptedDaemon.start(firstAnswer, refusal(status));
      await using client = new Observer({ url: daemon.url });
      await client.next();
      await assert.rejects(client.next(), (error) => {
        assert.ok(error instanceof FatalError);
        assert.equal(error.status, status);
        assert.match(error.message, new RegExp(`this is why it is ${status}`));
        return true;
      });
    });
  }

  test("reads compressed bodies, and sends token and name", async () => {
    const body = gzipSync(stateBody("c1", first));
    await using daemon = await ScriptedDaemon.start((response) => {
      response.writeHead(200, headersAt("c1", { "content-encoding": "gzip", "content-length": body.length })).end(body);
    });
    await using client = new Observer({ url: daemon.url, token: "secret", name: "agent/1" });
    assert.deepEqual(await client.told(), ["new a=1", "new b=2"]);
    const { headers } = daemon.asked[0]!;
    assert.equal(headers.authorization, "Bearer secret");
    assert.equal(headers["crumbd-client"], "agent/1");
    assert.equal(headers.accept, "application/x-ndjson; values=string");
  });

  test("sends prefixes as bytes, and needs no digest then", async () => {
    const path = "/v1/c/pods/breadcrumbs/current?prefix=%C3%A9%20%26%2F&prefix=%FF";
    await using daemon = await ScriptedDaemon.start(answer("c1", stateBody("c1", first, { unproved: true })));
    await using client = new Observer({ url: daemon.url, collection: "pods", prefix: ["é &/", Uint8Array.of(255)] });
    const event = await client.next();
    assert.equal(event.digest, digestOf(first));
    assert.deepEqual(daemon.paths, [path]);
  });

  test("ignores fields, headers and records that it does not know", async () => {
    const body = stateBody("c1", first)
      .replace('{"type":"new"', '{"type":"note","text":"a"}\n\n{"newer":[1],"type":"new"')
      .replace('{"type":"end"', '{"type":"checkpoint"}\n{"type":"end","newer":null');
    await using daemon = await ScriptedDaemon.start(answer("c1", body, { "crumbd-newer": "1" }));
    await using client = new Observer({ url: daemon.url });
    assert.deepEqual(await client.told(), ["new a=1", "new b=2"]);
  });

  test("gives up an answer that does not come, and asks for a shorter wait", async () => {
    const silent: Step = () => undefined;
    await using daemon = await ScriptedDaemon.start(firstAnswer, silent, answer("c2", updatesBody("c2", first, {})));
    await using client = new Observer({ url: daemon.url, timeoutMs: 1_000 });
    await client.next();
    assert.deepEqual(await client.told(), ["deleted a", "deleted b"]);
    assert.match(client.retries[0]?.message ?? "", /sent no answer for 1000 ms/);
    assert.deepEqual(daemon.paths.slice(1), Array<string>(2).fill(next("c1") + "?wait=500ms"));
  });

  test("gives up a body that stands still, and not one that comes slowly", async () => {
    const body = stateBody("c1", first);
    const stalled: Step = (response) => {
      response.writeHead(200, headersAt("c1", { "content-length": body.length })).write(body.slice(0, 9));
    };
    const slow: Step = (response) => {
      response.writeHead(200, headersAt("c1"));
      const size = Math.ceil(body.length / 8);
      let sent = 0;
      const timer = setInterval(() => {
        response.write(body.slice(sent, (sent += size)));
        if (sent >= body.length) response.end(() => clearInterval(timer));
      }, 200);
    };
    await using daemon = await ScriptedDaemon.start(stalled, slow);
    await using client = new Observer({ url: daemon.url, timeoutMs: 1_000 });
    assert.deepEqual(await client.told(), ["new a=1", "new b=2"]);
    assert.equal(client.retries.length, 1);
  });

  test("stays where it is with a replica that is behind, and does not ask it in a loop", async () => {
    await using daemon = await ScriptedDaemon.start(firstAnswer, ...Array<Step>(1000).fill(unchanged("c1")));
    await using client = new Observer({ url: daemon.url });
    await client.next();
    client.goOn();
    const startedMs = performance.now();
    await until("2 s have passed", () => performance.now() - startedMs > 2_000);
    assert.ok(daemon.asked.length >= 3 && daemon.asked.length <= 12, `it asked ${daemon.asked.length} times`);
    assert.deepEqual(new Set(daemon.paths), new Set([CURRENT, next("c1")]));
  });

  const hinted: Step = (response, request) => {
    response.writeEarlyHints({ link: '</x>; rel="next"' });
    firstAnswer(response, request);
  };
  for (const [what, nothing] of Object.entries({
    "a 204": unchanged("c1"),
    "the state again": firstAnswer,
    "no updates": answer("c1", updatesBody("c1", first, first)),
    "the state again, after a hint": hinted,
  })) {
    test(`pauses and tells nothing where answers come at once and move nothing: ${what}`, async () => {
      await using daemon = await ScriptedDaemon.start(hinted, ...Array<Step>(1000).fill(nothing));
      await using client = new Observer({ url: daemon.url });
      await client.next();
      let hasTold = false;
      client.next().then(
        () => (hasTold = true),
        () => undefined,
      );
      const startedMs = performance.now();
      await until("5 s have passed", () => performance.now() - startedMs > 5_000);
      assert.ok(daemon.asked.length >= 3 && daemon.asked.length <= 11, `it asked ${daemon.asked.length} times`);
      assert.equal(hasTold, false);
    });
  }

  test("takes an empty state over where its rights were narrowed, and only there", async () => {
    const changed = refusal(403, {}, "permission-changed");
    await using daemon = await ScriptedDaemon.start(
      firstAnswer,
      changed,
      changed,
      answer("c2", stateBody("c2", {}, { status: "resync-in-progress" })),
      answer("c3", updatesBody("c3", {}, {})),
      answer("c4", updatesBody("c4", {}, { b: "2" })),
      refusal(410),
      answer("c5", stateBody("c5", {})),
      answer("c6", stateBody("c6", { b: "3" })),
    );
    await using client = new Observer({ url: daemon.url });
    await client.next();
    assert.deepEqual(await client.told(), []);
    assert.deepEqual(await client.told(), ["deleted a", "deleted b"]);
    assert.deepEqual(await client.told(), ["new b=2"]);
    assert.deepEqual(await client.told(), ["updated b=3"]);
    assert.deepEqual(client.held, [1]);
  });

  const page = `<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n\u001b[31m${"long ".repeat(100)}`;
  const secret = "http://me:secret@127.0.0.1:9/x";
  const other =
    (status: number, body = "", headers: Record<string, string> = {}): Step =>
    (response) =>
      response.writeHead(status, headers).end(body);
  for (const [step, said] of [
    [other(302, "", { location: secret }), "answered 302: it redirects to http://…@127.0.0.1:9/x, which is not followed"],
    [other(304), "answered 304: Not Modified"],
    [other(407, page), "407 (Proxy Authentication Required)"],
    [refusal(410), "answered 410: this is why it is 410"],
    [other(413), "answered 413: Payload Too Large"],
    [other(418, "tea"), "answered 418: tea"],
    [other(502, page), "answered 502: <html> <head><title>502 Bad Gateway</title></head> [31mlong long"],
    [other(200, "{}", { "content-type": "application/json" }), 'the Content-Type "application/json"'],
    [answer("c1", `{"type":"snapshot","cursor":"${"c".repeat(300_000)}"}\n`), "more than 200000 bytes (maxLineBytes)"],
    [answer("c1", "no\nJSON\n"), "a line of the answer is no JSON: no"],
  ] as const) {
    test(`asks again, and says in one line why: ${said}`, async () => {
      await using daemon = await ScriptedDaemon.start(step, firstAnswer);
      await using client = new Observer({ url: daemon.url, token: "t", maxLineBytes: 200_000 });
      assert.deepEqual(await client.told(), ["new a=1", "new b=2"]);
      assert.deepEqual(daemon.paths, [CURRENT, CURRENT]);
      assert.equal(client.retries.length, 1);
      const { message } = client.retries[0]!;
      assert.ok(message.includes(said) && message.includes(daemon.url), message);
      assert.doesNotMatch(message, /[\r\n\u001b]|secret/);
      assert.ok(message.length < 400, message);
    });
  }

  test("asks again after 421, which fetch itself repeats once", async () => {
    await using daemon = await ScriptedDaemon.start(refusal(421), refusal(421), firstAnswer);
    await using client = new Observer({ url: daemon.url });
    await client.next();
    assert.match(client.retries[0]?.message ?? "", /answered 421: this is why it is 421/);
    assert.deepEqual(daemon.paths, [CURRENT, CURRENT, CURRENT]);
  });

  test("stops reading a body whose line does not end", async () => {
    let sent = 0;
    const endless: Step = (response) => {
      response.writeHead(200, headersAt("c1"));
      const piece = "x".repeat(65_536);
      const more = (): void => {
        while (!response.destroyed && response.write(piece)) sent += piece.length;
      };
      response.on("drain", more);
      more();
    };
    await using daemon = await ScriptedDaemon.start(endless, firstAnswer);
    await using client = new Observer({ url: daemon.url, maxLineBytes: 1_000_000 });
    await client.next();
    assert.equal(client.retries.length, 1);
    assert.ok(sent < 50_000_000, `${sent} bytes were sent`);
  });

  for (const [text, leastMs, mostMs] of [
    ["7", 7_000, 12_000],
    ["99999999999999999999", 300_000, 310_000],
    ["Wed, 21 Oct 2099 07:28:00 GMT", 300_000, 310_000],
    ["Wed, 21 Oct 2015 07:28:00 GMT", 0, 2_000],
    ["1.5", 0, 2_000],
    ["-5", 0, 2_000],
    ["soon", 0, 2_000],
  ] as const) {
    test(`understands the Retry-After "${text}"`, async () => {
      await using daemon = await ScriptedDaemon.start(refusal(503, { "retry-after": text }));
      const controller = new AbortController();
      const pauseMs = await new Promise<number>((resolve) => {
        const { url } = daemon;
        const events = follow({ url, signal: controller.signal, onRetry: (_, pauseMs) => resolve(pauseMs) });
        events.next().catch(() => undefined);
      });
      controller.abort();
      assert.ok(pauseMs >= leastMs && pauseMs <= mostMs, `it pauses for ${pauseMs} ms`);
    });
  }

  test("tells a status that only a 204 has", async () => {
    const status = "resync-in-progress";
    await using daemon = await ScriptedDaemon.start(firstAnswer, unchanged("c2", { "crumbd-status": status }));
    await using client = new Observer({ url: daemon.url });
    await client.next();
    const event = await client.next();
    assert.deepEqual([event.status, event.cursor, event.changes], [status, "c2", []]);
  });

  test("ends with the reason of its signal", async () => {
    await using daemon = await ScriptedDaemon.start(firstAnswer);
    const controller = new AbortController();
    const events = follow({ url: daemon.url, signal: controller.signal });
    await events.next();
    const waiting = events.next();
    await until("the client waits", () => daemon.asked.length === 2);
    controller.abort(new Error("enough"));
    await assert.rejects(waiting, /enough/);
  });
});

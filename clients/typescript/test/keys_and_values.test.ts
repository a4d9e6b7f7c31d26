import assert from "node:assert/strict";
import { test } from "node:test";
import { Key, Mirror, Value } from "crumbd";
import { lines } from "./support/bodies.js";
import { Observer } from "./support/observer.js";
import { answer, ScriptedDaemon } from "./support/scripted_daemon.js";

test("a key is the same by its text and by its bytes", () => {
  for (const text of ["", "a/b", "nul\0", "ü", "𝄞", "\ufeffbom"]) {
    const key = Key.of(text);
    assert.equal(key.text, text);
    assert.equal(Key.of(new TextEncoder().encode(text)).id, key.id);
    assert.deepEqual(key.bytes, new TextEncoder().encode(text));
  }
});

test("a key that is not UTF-8 is no other key", () => {
  const key = Key.of(Uint8Array.of(0xff, 0x61));
  assert.equal(key.text, undefined);
  assert.equal(String(key), "\\xffa");
  assert.notEqual(key.id, Key.of("\u00ffa").id);
  assert.notEqual(key.id, Key.of("\\xffa").id);
  assert.notEqual(key.id, Key.of("\ufffda").id);
});

test("a value is bytes, with text and JSON where it has them", () => {
  assert.deepEqual(Value.of('{"n":1.50}').json(), { n: 1.5 });
  assert.deepEqual(Value.of("é").bytes, Uint8Array.of(0xc3, 0xa9));
  assert.equal(Value.of(Uint8Array.of(0xc3, 0xa9)).text, "é");
  assert.ok(Value.of("é").equals(Value.of(Uint8Array.of(0xc3, 0xa9))));
  const binary = Value.of(Uint8Array.of(0xff, 0));
  assert.equal(binary.text, undefined);
  assert.throws(() => binary.json(), /not UTF-8/);
  assert.ok(!binary.equals(Value.of("ab")));
  binary.bytes.fill(0); // a copy
  assert.deepEqual(binary.bytes, Uint8Array.of(0xff, 0));
});

test("every key and value has the digest that the daemon says", async () => {
  const records = [
    { type: "new", key: "number", value: "1.50", encoding: "utf8" },
    { type: "new", key: "twice", value: '{"a":1,"a":2}', encoding: "utf8" },
    { type: "new", key: "empty", value: "", encoding: "utf8" },
    { type: "new", key: "nul\0", value: "\0", encoding: "utf8" },
    { type: "new", key: "𝄞", value: "\\ud800 ü".repeat(50), encoding: "utf8" },
    { type: "new", key_base64: "/2E=", value: "/wA=", encoding: "base64" },
  ];
  // By Python: sum(xxh3_128_intdigest(len(key).to_bytes(4, "little") + key + value)) % 2**128
  const proof = { count: 6, digest: "caa46a0cf0b37db775dd731f803a2655" };
  await using daemon = await ScriptedDaemon.start(answer("c1", lines("snapshot", "c1", records, proof)));
  await using client = new Observer({ url: daemon.url });
  const event = await client.next();
  assert.deepEqual([client.retries, event.digest, event.size], [[], proof.digest, 6]);
});

test("a list is in the order of the keys' bytes", async () => {
  const keys = ["b", "a", "ab", "a\0", "", "\uffff", "𝄞", "é"];
  const records = keys.map((key) => ({ type: "new", key, value: key, encoding: "utf8" }));
  await using daemon = await ScriptedDaemon.start(answer("c1", lines("snapshot", "c1", records, {})));
  const mirror = new Mirror(daemon.url).start();
  await mirror.waitForSync();
  mirror.close();
  const sorted = keys
    .map((key) => Buffer.from(key))
    .sort(Buffer.compare)
    .map(String);
  assert.deepEqual(
    mirror.list().map(({ key }) => key.text),
    sorted,
  );
  assert.deepEqual(
    mirror.list("a").map(({ key }) => key.text),
    ["a", "a\0", "ab"],
  );
  assert.deepEqual(mirror.list("zz"), []);
});

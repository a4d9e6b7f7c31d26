import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type Change, Mirror } from "crumbd";
import { until } from "./support/observer.js";
import { RealDaemon } from "./support/real_daemon.js";

const binary = process.env["CRUMBD_BIN"];
const skip = binary === undefined && "CRUMBD_BIN does not name the binary of the daemon";

suite("a client of a real daemon", { skip, concurrency: true }, () => {
  for (const transport of ["poll", "stream"] as const) {
    test(`has the daemon's state after random writes and restarts, by one snapshot (${transport})`, async () => {
      await using daemon = await RealDaemon.start(binary ?? "");
      const seed = Math.floor(Math.random() * 2 ** 32);
      const random = randomOf(seed);
      await daemon.write(randomWrites(random, 200));
      const asked: string[] = [];
      const mirror = new Mirror({
        url: daemon.url,
        transport,
        fetch: (input, init) => {
          asked.push(String(input));
          return fetch(input, init);
        },
      });
      // The application's own copy, by what it is told alone.
      const told = new Map<string, Change>();
      mirror.on("new", (change) => told.set(change.key.id, change));
      mirror.on("updated", (change) => told.set(change.key.id, change));
      mirror.on("deleted", (change) => told.delete(change.key.id));
      await mirror.start().waitForSync();
      for (let round = 0; round < 60; round++) {
        await daemon.write(randomWrites(random, 1 + (random() % 40)));
        if (round % 20 !== 19) continue;
        await daemon.stop(round === 19 ? "SIGKILL" : "SIGTERM");
        await daemon.start();
        await daemon.write(randomWrites(random, 1));
        const { digest } = await daemon.status();
        await until(`the digest is the daemon's (seed ${seed})`, () => mirror.digest === digest);
      }
      const { count } = await daemon.status();
      mirror.close();
      assert.equal(mirror.size, count);
      assert.equal(told.size, count);
      for (const { key, value } of mirror.list()) assert.ok(told.get(key.id)?.value?.equals(value), String(key));
      const snapshots = asked.filter((address) => /\/current|\/stream$/.test(address));
      assert.equal(snapshots.length, 1, `seed ${seed}: ${snapshots.join(", ")}`);
      assert.ok(asked.length >= 4, "it asked again after each of three restarts");
    });
  }

  test("sees the keys under a prefix, and bytes of every kind", async () => {
    await using daemon = await RealDaemon.start(binary ?? "");
    const mirror = new Mirror({ url: daemon.url, prefix: Uint8Array.of(0xff), name: "test" }).start();
    await mirror.waitForSync();
    await daemon.write([
      { type: "put", key: "elsewhere", value: 1 },
      { type: "put", key_base64: "/y8=", value: "AAE=", encoding: "base64" },
    ]);
    await until("the key came", () => mirror.size === 1);
    mirror.close();
    assert.deepEqual(mirror.get(Uint8Array.of(0xff, 0x2f))?.bytes, Uint8Array.of(0, 1));
  });
});

/** A generator of random 32-bit numbers ("mulberry32"), so that a failure can be repeated by its seed. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

function randomWrites(random: () => number, count: number): object[] {
  return Array.from({ length: count }, () => {
    const id = random() % 150;
    const key = id % 10 === 0 ? { key_base64: Buffer.of(0xff, id).toString("base64") } : { key: `key/${id}é` };
    const text = "ü€𝄞\0{}".repeat(random() % 90);
    const base64 = Buffer.from({ length: random() % 3000 } as ArrayLike<number>)
      .fill(id)
      .toString("base64");
    const value = [
      { value: { n: id, text } },
      { value: text, encoding: "utf8" },
      { value: base64, encoding: "base64" },
    ];
    return random() % 4 === 0 ? { type: "deleted", ...key } : { type: "put", ...key, ...value[random() % 3] };
  });
}

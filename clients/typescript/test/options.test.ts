import assert from "node:assert/strict";
import { test } from "node:test";
import { follow, Mirror, type FollowOptions } from "crumbd";
import { stateBody } from "./support/bodies.js";
import { answer, ScriptedDaemon } from "./support/scripted_daemon.js";

const url = "http://localhost:7811";

test("wrong options are said at once, and no password or token with them", () => {
  const wrong: FollowOptions[] = [
    { url: [] },
    { url: "" },
    { url: "localhost:7811" },
    { url: "http://me:secret@host" },
    { url: "ftp://me:secret@host" },
    { url: "http://me:secret@host:99999" },
    { url: "http://host:0" },
    { url: "http://host/?x=1" },
    { url, token: "" },
    { url, token: "secret\n" },
    { url, token: "a\r\nsecret: 1" },
    { url, name: "ü" },
    { url, timeoutMs: 0 },
    { url, maxLineBytes: 0 },
    { url, timeoutMs: Number.NaN },
    { url, collection: "a/b" },
  ];
  const hasNoSecret = (error: unknown): boolean => error instanceof TypeError && !error.message.includes("secret");
  for (const options of wrong) {
    assert.throws(() => follow(options), hasNoSecret, JSON.stringify(options));
    assert.throws(() => new Mirror(options), hasNoSecret, JSON.stringify(options));
  }
});

test("an address may have a path, slashes at its end and an empty query", async () => {
  for (const end of ["", "/", "//", "/?"]) {
    await using daemon = await ScriptedDaemon.start(answer("c1", stateBody("c1", {})));
    for await (const event of follow(`${daemon.url}/base${end}`)) {
      assert.equal(event.cursor, "c1");
      break;
    }
    assert.deepEqual(daemon.paths, ["/base/v1/breadcrumbs/current"]);
  }
});

// A client whose types openapi-typescript makes of /openapi.json. It needs no cast. Its argument is the daemon's address.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Change = components["schemas"]["Change"];

// The second argument says which of the media types of a body this client asks for.
type Json = "application/json" | "application/problem+json";
const baseUrl = process.argv[2];
assert(baseUrl !== undefined);
const crumbd = createClient<paths, Json>({ baseUrl });

const keyPath = (key: string) => ({ path: { key } });

// The state.
const current = await crumbd.GET("/v1/breadcrumbs/current");
assert(current.data, current.error?.detail);
const state = new Map<string, unknown>();
for (const entry of current.data.entries) {
  if (entry.key !== undefined) state.set(entry.key, entry.value);
}
assert.equal(current.data.mode, "snapshot");

// Writes: JSON, text, bytes.
const put = await crumbd.PUT("/v1/kv/{key}", { params: keyPath("ts/json"), body: { hello: [1, "two"] } });
assert.equal(put.data?.changed, 1, put.error?.detail);
const text = await crumbd.PUT("/v1/kv/{key}", {
  params: keyPath("ts/text"),
  body: "plain",
  bodySerializer: (body) => body,
  headers: { "Content-Type": "text/plain" },
});
assert.equal(text.data?.changed, 1, text.error?.detail);
const bytes = new Uint8Array([0, 255, 128, 10]);
const binary = await crumbd.PUT("/v1/kv/{key}", {
  params: keyPath("ts/binary"),
  body: bytes,
  bodySerializer: (body) => body,
  headers: { "Content-Type": "application/octet-stream" },
});
assert.equal(binary.data?.changed, 1, binary.error?.detail);

// The next breadcrumb.
const apply = (change: Change) => {
  const key = change.key ?? change.key_base64 ?? "";
  if (change.type === "deleted") state.delete(key);
  else state.set(key, change.value);
};
const next = async (cursor: string, wait: string) =>
  crumbd.GET("/v1/breadcrumbs/{cursor}/next", { params: { path: { cursor }, query: { wait } } });
const news = await next(current.data.cursor, "5s");
assert(news.data, news.error?.detail);
assert.equal(news.data.from, current.data.cursor);
news.data.updates.forEach(apply);
assert.deepEqual(state.get("ts/json"), { hello: [1, "two"] });
assert.equal(state.get("ts/text"), "plain");
const cursor = news.data.cursor;

const idle = await next(cursor, "0");
assert.equal(idle.response.status, 204);
assert.equal(idle.data, undefined);
assert.equal(idle.response.headers.get("crumbd-cursor"), cursor);

const elsewhere = (cursor.startsWith("0") ? "1" : "0") + cursor.slice(1);
const gone = await next(elsewhere, "0");
assert.equal(gone.response.status, 410);
assert.equal(gone.error?.current, cursor);

// Single keys.
const json = await crumbd.GET("/v1/kv/{key}", { params: keyPath("ts/json") });
assert.deepEqual(json.data, { hello: [1, "two"] });
const plain = await crumbd.GET("/v1/kv/{key}", { params: keyPath("ts/text"), parseAs: "text" });
assert.equal(plain.data, "plain");
const raw = await crumbd.GET("/v1/kv/{key}", { params: keyPath("ts/binary"), parseAs: "arrayBuffer" });
assert(raw.data, raw.error?.detail);
assert.deepEqual(new Uint8Array(raw.data), bytes);
const absent = await crumbd.GET("/v1/kv/{key}", { params: keyPath("absent") });
assert.equal(absent.error?.status, 404);

// A key that browsers and fetch would rewrite in a path.
const dot = { query: { key: "." } };
const dotPut = await crumbd.PUT("/v1/kv", { params: dot, body: "dot" });
assert.equal(dotPut.data?.changed, 1, dotPut.error?.detail);
const dotGot = await crumbd.GET("/v1/kv", { params: dot, parseAs: "text" });
assert.equal(dotGot.data, '"dot"');
const dotGone = await crumbd.DELETE("/v1/kv", { params: dot });
assert.equal(dotGone.data?.changed, 1, dotGone.error?.detail);

// Pages, of several prefixes.
const listed: string[] = [];
const prefix = ["ts/", "other/"];
for (let start_after: string | undefined; ; ) {
  const query = { prefix, limit: 1, ...(start_after === undefined ? {} : { start_after }) };
  const page = await crumbd.GET("/v1/kv", { params: { query } });
  assert(page.data, page.error?.detail);
  for (const entry of page.data.entries) listed.push(entry.key ?? "");
  if (page.data.more !== true) break;
  start_after = listed.at(-1);
}
assert.deepEqual(listed, ["ts/binary", "ts/json", "ts/text"]);

// Several changes at once.
const changes: Change[] = [
  { type: "put", key: "ts/post", value: 1 },
  { type: "put", key_base64: "/w==", value: "AP8=", encoding: "base64" },
  { type: "deleted", key: "ts/json" },
];
const posted = await crumbd.POST("/v1/updates", { body: changes });
assert.equal(posted.data?.changed, 3, posted.error?.detail);
const deleted = await crumbd.DELETE("/v1/kv/{key}", { params: keyPath("ts/post") });
assert.equal(deleted.data?.changed, 1, deleted.error?.detail);

const status = await crumbd.GET("/v1/status");
assert(status.data, "no status");
assert.equal(status.data.status, "in-sync");
assert.equal(status.data.unwell, null);
assert(status.data.ingest.updates > 0 && status.data.kept.oldest !== null);

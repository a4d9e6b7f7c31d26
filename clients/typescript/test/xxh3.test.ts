import assert from "node:assert/strict";
import { test } from "node:test";
import { xxh3_128 } from "#xxh3";
import { dataOf, VECTORS } from "./support/xxh3_vectors.js";

test("hashes of every length class are those of the reference", () => {
  const out = new Uint32Array(4);
  for (const [length, hash] of VECTORS) {
    const data = dataOf(length);
    xxh3_128(new DataView(data.buffer), length, out);
    const hex = Array.from(out, (part) => part.toString(16).padStart(8, "0")).reverse();
    assert.equal(hex.join(""), hash, `the hash of ${length} bytes`);
  }
});

/**
 * Measures a mirror: the first state, and then the updates up to a state that has a digest.
 *
 *     node build/bench/mirror.js URL poll|stream DIGEST ROUNDS
 *
 * `cargo bench --bench client_languages` runs it. It prints one line of JSON with the medians of the rounds, in seconds.
 * CPU time is that of the process, user and system.
 */
import { Mirror } from "crumbd";

const LIMIT_MS = 120_000;

interface Moment {
  readonly wallMs: number;
  readonly cpuMs: number;
}

function now(): Moment {
  const { user, system } = process.cpuUsage();
  return { wallMs: performance.now(), cpuMs: (user + system) / 1000 };
}

async function measure(url: string, transport: "poll" | "stream", digest: string): Promise<Record<string, number>> {
  const mirror = new Mirror({ url, transport });
  const reached = new Promise<void>((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`the digest is ${mirror.digest}, not ${digest}`)), LIMIT_MS);
    mirror.on("changes", (event) => {
      if (event.digest !== digest) return;
      clearTimeout(late);
      resolve();
    });
  });
  const begun = now();
  await mirror.start().waitForSync({ timeoutMs: LIMIT_MS });
  const synced = now();
  await reached;
  const ended = now();
  mirror.close();
  return {
    keys: mirror.size,
    state: (synced.wallMs - begun.wallMs) / 1000,
    state_cpu: (synced.cpuMs - begun.cpuMs) / 1000,
    updates: (ended.wallMs - synced.wallMs) / 1000,
    updates_cpu: (ended.cpuMs - synced.cpuMs) / 1000,
  };
}

const [url, transport, digest, rounds] = process.argv.slice(2);
if (url === undefined || (transport !== "poll" && transport !== "stream") || digest === undefined) {
  throw new Error("usage: mirror.js URL poll|stream DIGEST ROUNDS");
}
const all: Record<string, number>[] = [];
while (all.length < Number(rounds)) all.push(await measure(url, transport, digest));
const median = (name: string): number => {
  const sorted = all.map((one) => one[name] ?? 0).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
};
console.log(JSON.stringify(Object.fromEntries(Object.keys(all[0] ?? {}).map((name) => [name, median(name)]))));

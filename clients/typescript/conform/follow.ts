/*
 * The program that `crumbd conform` runs: follows as the environment says, and prints a line of JSON for each event.
 *
 *     crumbd conform --transport poll -- node build/conform/follow.js
 */
import { spawnSync } from "node:child_process";
import { follow, type Change, FatalError } from "crumbd";

/** Node reads this variable only at its start. */
const { CRUMBD_CA_FILE: authority, NODE_EXTRA_CA_CERTS: trusted } = process.env;
if (authority !== undefined && trusted !== authority) {
  const again = spawnSync(process.execPath, process.argv.slice(1), {
    env: { ...process.env, NODE_EXTRA_CA_CERTS: authority },
    stdio: "inherit",
  });
  process.exit(again.status ?? 1);
}

const { CRUMBD_URL, CRUMBD_TRANSPORT, CRUMBD_PREFIX, CRUMBD_TOKEN, CRUMBD_TIMEOUT_MS, CRUMBD_ALLOW_EMPTY } =
  process.env;
if (CRUMBD_URL === undefined)
  throw new Error("CRUMBD_URL is not set: it names the daemon, such as http://127.0.0.1:7811");

const closed = new AbortController();
process.stdin.on("end", () => closed.abort()).resume();

try {
  const events = follow({
    url: CRUMBD_URL.split(","),
    transport: CRUMBD_TRANSPORT === "stream" ? "stream" : "poll",
    ...(CRUMBD_PREFIX !== undefined ? { prefix: CRUMBD_PREFIX } : {}),
    ...(CRUMBD_TOKEN !== undefined ? { token: CRUMBD_TOKEN } : {}),
    ...(CRUMBD_TIMEOUT_MS !== undefined ? { timeoutMs: Number(CRUMBD_TIMEOUT_MS) } : {}),
    allowEmpty: CRUMBD_ALLOW_EMPTY === "1",
    signal: closed.signal,
    onRetry: (error) => print({ retry: error.message }),
    onHeld: (held) => print({ held }),
  });
  for await (const { cursor, status, size, digest, changes } of events) {
    print({ cursor, status, count: size, digest, changes: changes.map(printable) });
  }
} catch (error) {
  if (closed.signal.aborted) process.exit(0);
  if (!(error instanceof FatalError)) throw error;
  print({ fatal: error.message });
  process.exit(1);
}

function printable({ type, key, value }: Change): object {
  const named = { type, key: base64(key.bytes) };
  return value === undefined ? named : { ...named, value: base64(value.bytes) };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}

function print(line: object): void {
  process.stdout.write(JSON.stringify(line) + "\n");
}

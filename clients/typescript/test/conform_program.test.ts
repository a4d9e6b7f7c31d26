import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { digestOf, stateBody } from "./support/bodies.js";
import { answer, refusal, ScriptedDaemon, stream } from "./support/scripted_daemon.js";

const PROGRAM = fileURLToPath(new URL("../conform/follow.js", import.meta.url));

/** Runs the program: its first line, and its exit code after its input was closed. */
async function run(env: Readonly<Record<string, string>>): Promise<{ line: unknown; code: unknown }> {
  const program = spawn(process.execPath, [PROGRAM], { env, stdio: ["pipe", "pipe", "inherit"], timeout: 20_000 });
  const exit = once(program, "exit");
  const [line] = await once(createInterface(program.stdout), "line");
  program.stdin.end();
  const [code] = await exit;
  return { line: JSON.parse(String(line)), code };
}

for (const transport of ["poll", "stream"]) {
  test(`the conform program speaks the line protocol (${transport})`, async () => {
    const body = stateBody("c1", { a: "1" });
    await using daemon = await ScriptedDaemon.start(transport === "poll" ? answer("c1", body) : stream(body));
    const { line, code } = await run({ CRUMBD_URL: daemon.url, CRUMBD_TRANSPORT: transport });
    const changes = [{ type: "new", key: "YQ==", value: "MQ==" }];
    assert.deepEqual(line, { cursor: "c1", status: "in-sync", count: 1, digest: digestOf({ a: "1" }), changes });
    assert.equal(code, 0);
  });
}

test("the conform program ends with 1 where it is refused", async () => {
  await using daemon = await ScriptedDaemon.start(refusal(401));
  const { line, code } = await run({ CRUMBD_URL: daemon.url, CRUMBD_TRANSPORT: "poll" });
  assert.match((line as { fatal: string }).fatal, /this is why it is 401/);
  assert.equal(code, 1);
});

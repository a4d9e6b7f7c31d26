import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** A daemon of the binary that `CRUMBD_BIN` names, with a store that survives restarts. */
export class RealDaemon implements AsyncDisposable {
  #process: ChildProcess | undefined;
  #address = "127.0.0.1:0";
  readonly #binary: string;
  readonly #directory: string;

  static async start(binary: string): Promise<RealDaemon> {
    const daemon = new RealDaemon(binary, await mkdtemp(join(tmpdir(), "crumbd-")));
    await daemon.start();
    return daemon;
  }

  private constructor(binary: string, directory: string) {
    this.#binary = binary;
    this.#directory = directory;
  }

  get url(): string {
    return `http://${this.#address}`;
  }

  /** Starts it, again at the same address. */
  async start(): Promise<void> {
    const args = ["serve", "--feed", "push:", "--listen", this.#address, "--state-dir", this.#directory];
    const daemon = spawn(this.#binary, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = daemon;
    const log: string[] = [];
    const listening = new Promise<string>((resolve, reject) => {
      const look = (line: string): void => {
        log.push(line);
        const address = /listening.*?url=\S*?\/\/([\d.]+:\d+)/.exec(line)?.[1];
        if (address !== undefined) resolve(address);
      };
      createInterface(daemon.stdout).on("line", look);
      createInterface(daemon.stderr).on("line", look);
      daemon.on("exit", () => reject(new Error(`the daemon ended: ${log.join("\n")}`)));
      daemon.on("error", reject);
      setTimeout(() => reject(new Error(`the daemon does not listen: ${log.join("\n")}`)), 20_000).unref();
    });
    this.#address = await listening;
  }

  async stop(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const daemon = this.#process;
    if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return;
    const exit = once(daemon, "exit");
    daemon.kill(signal);
    await exit;
  }

  /** Writes records as one revision. */
  async write(records: readonly object[]): Promise<void> {
    const body = records.map((record) => JSON.stringify(record) + "\n").join("");
    const headers = { "content-type": "application/x-ndjson" };
    const signal = AbortSignal.timeout(20_000);
    const response = await fetch(`${this.url}/v1/updates`, { method: "POST", body, headers, signal });
    const text = await response.text();
    if (!response.ok) throw new Error(`a write was answered ${response.status}: ${text}`);
  }

  async status(): Promise<{ digest: string; count: number }> {
    const response = await fetch(`${this.url}/v1/status`, { signal: AbortSignal.timeout(20_000) });
    return (await response.json()) as { digest: string; count: number };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
    await rm(this.#directory, { recursive: true });
  }
}

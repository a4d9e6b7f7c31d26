import { once } from "node:events";
import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** What the daemon does with one request. */
export type Step = (response: ServerResponse, request: IncomingMessage) => void;

/** A request that came. */
export interface Asked {
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly atMs: number;
}

/** A server that does to each request what its script says. Requests after the last step wait for a further one. */
export class ScriptedDaemon implements AsyncDisposable {
  readonly asked: Asked[] = [];
  readonly #server = createServer((request, response) => this.#take(request, response));
  readonly #steps: Step[] = [];
  readonly #waiting: [ServerResponse, IncomingMessage][] = [];
  readonly #sockets = new Set<Socket>();

  static async start(...steps: readonly Step[]): Promise<ScriptedDaemon> {
    const daemon = new ScriptedDaemon();
    daemon.play(...steps);
    await daemon.listen(0);
    return daemon;
  }

  private constructor() {
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => undefined); // the client may go at any time
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get paths(): string[] {
    return this.asked.map(({ path }) => path);
  }

  /** Adds steps to the script. */
  play(...steps: readonly Step[]): void {
    this.#steps.push(...steps);
    this.#serve();
  }

  async listen(port: number): Promise<void> {
    this.#server.listen(port, "127.0.0.1");
    await once(this.#server, "listening");
  }

  /** Breaks all connections, and takes no more. */
  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    this.#waiting.length = 0;
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    this.asked.push({ path: request.url ?? "", headers: request.headers, atMs: performance.now() });
    const waiting: [ServerResponse, IncomingMessage] = [response, request];
    this.#waiting.push(waiting);
    response.on("close", () => {
      const at = this.#waiting.indexOf(waiting);
      if (at >= 0) this.#waiting.splice(at, 1);
    });
    this.#serve();
  }

  #serve(): void {
    while (this.#waiting.length > 0 && this.#steps.length > 0) {
      const [response, request] = this.#waiting.shift()!;
      this.#steps.shift()!(response, request);
    }
  }
}

export function headersAt(cursor: string, more: OutgoingHttpHeaders = {}): OutgoingHttpHeaders {
  return {
    "content-type": "application/x-ndjson; values=string",
    "crumbd-cursor": cursor,
    "crumbd-status": "in-sync",
    link: `</v1/breadcrumbs/${cursor}/next>; rel="next"`,
    ...more,
  };
}

/** 200 with a body at a cursor. */
export function answer(cursor: string, body: string, headers: OutgoingHttpHeaders = {}): Step {
  return (response) => response.writeHead(200, headersAt(cursor, headers)).end(body);
}

/** 204 with a cursor. */
export function unchanged(cursor: string, headers: OutgoingHttpHeaders = {}): Step {
  return (response) => response.writeHead(204, headersAt(cursor, headers)).end();
}

/** A refusal with its problem. */
export function refusal(status: number, headers: OutgoingHttpHeaders = {}, kind = "test"): Step {
  const problem = { type: `urn:crumbd:problem:${kind}`, status, detail: `this is why it is ${status}` };
  return (response) =>
    response.writeHead(status, { "content-type": "application/problem+json", ...headers }).end(JSON.stringify(problem));
}

/** An answer of which a part comes before the connection breaks. */
export function cutOff(cursor: string, body: string, length: number): Step {
  return (response) => {
    response.writeHead(200, headersAt(cursor, { "content-length": Buffer.byteLength(body) }));
    response.write(body.slice(0, length), () => response.destroy());
  };
}

/** A stream of these pieces, which stays open. */
export function stream(...pieces: readonly string[]): Step {
  return (response) => {
    response.writeHead(200, { "content-type": "application/x-ndjson; values=string", "crumbd-status": "in-sync" });
    for (const piece of pieces) response.write(piece);
  };
}

/** The same, and its end. */
export function endedStream(...pieces: readonly string[]): Step {
  return (response, request) => {
    stream(...pieces)(response, request);
    response.end();
  };
}

import { type KeyLike, idOf } from "./key.js";

/** The base addresses of replicas. */
export class Endpoints {
  readonly #bases: readonly URL[];
  #at = 0;

  /** Throws a `TypeError` where an address cannot be one of a daemon. */
  constructor(urls: string | readonly string[]) {
    this.#bases = (typeof urls === "string" ? [urls] : urls).map(parseBase);
    if (this.#bases.length === 0) throw new TypeError("`url` has no address: give at least one");
  }

  /** The address that is asked now. */
  get current(): URL {
    return this.#bases[this.#at]!;
  }

  /** Goes to the next replica. */
  moveOn(): void {
    this.#at = (this.#at + 1) % this.#bases.length;
  }

  /** The address of an endpoint of the daemon. */
  address(path: string): string {
    return this.current.origin + this.current.pathname.replace(/\/+$/, "") + path;
  }

  /** The address of a path with its query, on the replica that is asked now. */
  addressOfLink(link: string): string {
    return this.current.origin + link;
  }
}

function parseBase(text: string): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    const shown = text.replace(/\/\/.*@/, "//…@"); // not the password, which the cause would tell too
    throw new TypeError(`"${shown}" is no address: write it like http://localhost:7811`);
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw new TypeError(`the address of ${url.host} has more than host, port and path: give a token as \`token\``);
  }
  if ((url.protocol !== "http:" && url.protocol !== "https:") || url.port === "0") {
    throw new TypeError(`"${text}" is no address of a daemon: write it like http://localhost:7811`);
  }
  return url;
}

/** The path of a collection. Throws a `TypeError` where the name cannot be one. */
export function collectionPath(name: string | undefined): string {
  if (name === undefined) return "/v1";
  if (/^[a-z0-9][a-z0-9._-]{0,62}$/.test(name)) return `/v1/c/${name}`;
  throw new TypeError(`"${name}" is no name of a collection: it has 1 to 63 of a-z, 0-9, "-", "." and "_"`);
}

/** `?prefix=…` for each prefix; empty without one. */
export function prefixQuery(prefix: KeyLike | readonly KeyLike[] | undefined): string {
  if (prefix === undefined) return "";
  const prefixes = isList(prefix) ? prefix : [prefix];
  const parameters = prefixes.map((one) => "prefix=" + percentEncoded(idOf(one)));
  return parameters.length === 0 ? "" : "?" + parameters.join("&");
}

function isList(prefix: KeyLike | readonly KeyLike[]): prefix is readonly KeyLike[] {
  return Array.isArray(prefix);
}

/** A query with one more parameter. */
export function withParameter(address: string, parameter: string): string {
  return address + (address.includes("?") ? "&" : "?") + parameter;
}

function percentEncoded(id: string): string {
  const escape = (char: string): string => "%" + char.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0");
  return id.replace(/[^A-Za-z0-9._~-]/g, escape);
}

/**
 * The path and query of the link with `rel="next"`, resolved against the address that was asked. Only path and query:
 * they are the same on another replica, and a token never goes to a host that was not given.
 */
export function nextLink(header: string | null, asked: string): string | undefined {
  for (const [, target = "", parameters = ""] of (header ?? "").matchAll(LINK)) {
    const rel = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))/i.exec(parameters);
    const names = (rel?.[1] ?? rel?.[2] ?? "").toLowerCase().split(/\s+/);
    if (!names.includes("next") || !URL.canParse(target, asked)) continue;
    const url = new URL(target, asked);
    return url.pathname + url.search;
  }
  return undefined;
}

/** `<target>` and its parameters, in which commas may be quoted. */
const LINK = /<([^>]*)>((?:[^,"<]|"[^"]*")*)/g;

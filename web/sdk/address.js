// Where the server is, and the URLs of one room there.

/** @import { Position } from './index.js' */

export class Address {
  #base;

  /**
   * @param {string | URL} url with or without a path prefix, `http(s)` or `ws(s)`
   * @param {string} room
   */
  constructor(url, room) {
    const base = new URL(url, globalThis.document?.baseURI);
    if (!/^(http|ws)s?:$/.test(base.protocol)) throw new TypeError(`not an http or ws URL: ${url}`);
    base.protocol = base.protocol.replace('ws', 'http');
    base.search = base.hash = '';
    base.pathname = `${base.pathname.replace(/\/+$/, '')}/v1/rooms/${encodeURIComponent(room)}/`;
    this.#base = base;
  }

  /**
   * @param {string} path
   * @param {Record<string, string | number | undefined>} [query]
   */
  http(path, query = {}) {
    const url = new URL(this.#base);
    url.pathname += path;
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    return url.href;
  }

  /** @param {Record<string, string | number | undefined>} query */
  webSocket(query) {
    return this.http('ws', query).replace('http', 'ws');
  }
}

/**
 * `EPOCH:SEQ`, as in `since`.
 *
 * @param {Position | null} position
 */
export function since(position) {
  return position ? `${position.epoch}:${position.seq}` : undefined;
}

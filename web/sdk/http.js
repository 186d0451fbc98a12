// The URLs of one room, and requests to them.

/** @import { Clock } from './clock.js' */

import { asDanmakuError, responseError } from './errors.js';

/** @typedef {ReturnType<typeof createHttp>} Http */
/** @typedef {Record<string, string | number | undefined>} Query */

/**
 * @typedef {object} Details
 * @property {AbortController} [abort] also used when it takes too long
 * @property {number} [ms] how long the response may take
 * @property {Query} [query]
 * @property {object} [body] makes it a POST
 * @property {Record<string, string>} [headers]
 * @property {RequestCache} [cache]
 */

/**
 * @param {object} options
 * @param {string | URL} options.url with or without a path prefix, `http(s)` or `ws(s)`
 * @param {string} options.room
 * @param {string | (() => string | Promise<string>)} [options.token]
 * @param {typeof globalThis.fetch} options.fetch
 * @param {Clock} options.clock
 */
export function createHttp({ url, room, token, fetch, clock }) {
  const base = new URL(url, globalThis.document?.baseURI);
  const prefix = `${base.pathname.replace(/\/+$/, '')}/v1/rooms/${encodeURIComponent(room)}/`;
  const word = async () => (typeof token === 'function' ? token() : token);

  /**
   * @param {string} scheme
   * @param {string} path
   * @param {Query} query
   */
  function target(scheme, path, query) {
    const at = new URL(prefix + path, base);
    at.protocol = base.protocol.replace(/^(http|ws)/, scheme);
    // By way of JSON, which leaves out what is undefined.
    at.search = `${new URLSearchParams(JSON.parse(JSON.stringify(query)))}`;
    return at.href;
  }

  return {
    /** @param {Query} query */
    webSocketUrl: async (query) => target('ws', 'ws', { ...query, token: await word() }),

    /**
     * Hands a successful response to `read`. Everything else is thrown as a `DanmakuError`.
     *
     * @template T
     * @param {string} path
     * @param {Details} details
     * @param {(response: Response) => Promise<T>} read
     */
    async request(path, { abort = new AbortController(), ms, query = {}, body, headers, cache }, read) {
      const timer = clock.timer();
      if (ms) timer.set(ms, () => abort.abort());
      try {
        const bearer = await word();
        const response = await fetch(target('http', path, query), {
          ...(body && { method: 'POST', body: JSON.stringify(body) }),
          headers: {
            ...(body && { 'Content-Type': 'application/json' }),
            ...(bearer && { Authorization: `Bearer ${bearer}` }),
            ...headers,
          },
          signal: abort.signal,
          cache,
        });
        if (!response.ok) throw await responseError(response);
        return await read(response);
      } catch (error) {
        throw asDanmakuError(error);
      } finally {
        timer.clear();
      }
    },
  };
}

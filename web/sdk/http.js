// The URLs of one room, and requests to them.

import { refusal } from './errors.js';

/** @typedef {ReturnType<typeof createHttp>} Http */
/** @typedef {Record<string, string | number | undefined>} Query */

/**
 * @typedef {object} Details
 * @property {AbortSignal} [signal]
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
 */
export function createHttp({ url, room, token, fetch }) {
  const base = new URL(url, globalThis.document?.baseURI);
  const prefix = `${base.pathname.replace(/\/+$/, '')}/v1/rooms/${encodeURIComponent(room)}/`;
  const secret = async () => (typeof token === 'function' ? token() : token);

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
    token: secret,

    /** @param {Query} query */
    webSocketUrl: async (query) => target('ws', 'ws', { ...query, token: await secret() }),

    /**
     * Resolves with a successful response; any other is thrown as a `DanmakuError`.
     *
     * @param {string} path
     * @param {Details} details
     */
    async request(path, { query = {}, body, headers, ...details }) {
      const bearer = await secret();
      const response = await fetch(target('http', path, query), {
        ...details,
        ...(body && { method: 'POST', body: JSON.stringify(body) }),
        headers: {
          ...(body && { 'Content-Type': 'application/json' }),
          ...(bearer && { Authorization: `Bearer ${bearer}` }),
          ...headers,
        },
      });
      if (!response.ok) throw await refused(response);
      return response;
    },
  };
}

/**
 * A proxy's own error has no code of ours and counts as `network`.
 *
 * @param {Response} response
 */
async function refused(response) {
  const { status, headers } = response;
  const code = status === 401 ? 'unauthorized' : 'network';
  const body = await response.json().catch(() => null);
  const retry_after_ms = Number(headers.get('retry-after')) * 1000 || undefined;
  return refusal({ code, message: `the server answered ${status}`, retry_after_ms, ...body?.error }, status);
}

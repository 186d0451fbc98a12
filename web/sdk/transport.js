// What every transport is: it opens one connection to a room and hands out the server's messages.

/** @import { Clock, Encoding, Position } from './index.js' */
/** @import { Http, Query } from './http.js' */

/**
 * @typedef {object} Request
 * @property {Http} http
 * @property {Position | null} position where to resume
 * @property {number} history
 * @property {Query} query the same for a URL
 * @property {'auto' | Encoding} encoding of a WebSocket
 * @property {Clock} clock
 * @property {any} WebSocket
 */

/**
 * @typedef {object} Listener
 * @property {(message: any, bytes: number) => void} message
 * @property {(cause: unknown) => void} end it is over; only the first call counts, and none after `close()`
 */

/**
 * @typedef {object} Link
 * @property {Encoding} [encoding] of a WebSocket
 * @property {(message: object) => void} [send] the same
 * @property {() => void} close
 */

/** @typedef {(request: Request, listener: Listener) => Link} Open */

export {};

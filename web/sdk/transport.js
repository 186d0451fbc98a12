// What every transport is: it opens one connection to a room and hands out the server's messages.

/** @import { Clock, Encoding, Position } from './index.js' */
/** @import { Address } from './address.js' */
/** @import { DanmakuError } from './errors.js' */

/**
 * @typedef {object} Request
 * @property {Address} address
 * @property {Position | null} position where to resume
 * @property {number} heardAt when the last message before that came, by the clock
 * @property {number} history
 * @property {string} [token]
 * @property {Encoding} encoding of a WebSocket
 * @property {Clock} clock
 * @property {any} WebSocket
 * @property {typeof fetch} fetch
 */

/**
 * @typedef {object} Listener
 * @property {(message: any, bytes: number) => void} message
 * @property {(error: DanmakuError) => void} end called once, unless the link was closed first
 */

/**
 * @typedef {object} Link
 * @property {Encoding | null} encoding
 * @property {(message: object) => void} [send] only a WebSocket has it
 * @property {() => void} close no more calls of the listener after this
 */

/** @typedef {(request: Request, listener: Listener) => Link} Open */

export {};

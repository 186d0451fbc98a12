// The public surface; index.d.ts describes it.

export { DanmakuError } from './errors.js';
export { DanmakuRoom } from './room.js';

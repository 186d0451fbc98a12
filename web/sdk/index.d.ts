/** How messages reach the page: the first one that works is used. */
export type TransportName = 'websocket' | 'sse' | 'pull';

/** How batches are packed on a WebSocket. */
export type Encoding = 'identity' | 'gzip' | 'deflate';

/** `joined` is the only state in which comments arrive; `closed` lasts until `connect()`. */
export type RoomState = 'connecting' | 'joined' | 'reconnecting' | 'closed';

/** A place in a room's log: everything up to and including `seq`, in the numbering named `epoch`. */
export interface Position {
  epoch: number;
  seq: number;
}

/** What a poster may set; all but `text` have defaults. */
export interface Post {
  /** 1 to 200 Unicode scalar values. */
  text: string;
  mode?: 'scroll' | 'top' | 'bottom';
  /** `0xRRGGBB`. */
  color?: number;
  /** Font size, 10 to 64. */
  size?: number;
  /** The id of the comment that this one replies to. */
  reply_to?: number;
  /** Anything for the application, up to 512 bytes of JSON. */
  data?: Record<string, unknown>;
  user?: string;
  name?: string;
}

export interface Comment {
  id: number;
  epoch: number;
  /** When the server accepted it, in milliseconds since 1970, to the tenth of a second. */
  ts: number;
  text: string;
  user?: string;
  name?: string;
  mode: 'scroll' | 'top' | 'bottom';
  color: number;
  size: number;
  role: 'viewer' | 'member' | 'moderator' | 'streamer';
  reply_to?: number;
  data?: Record<string, unknown>;
  /** This room object posted it. */
  own: boolean;
  /** It was posted before this viewer joined, or while the connection was broken. */
  replay: boolean;
}

export interface Batch {
  after: number;
  seq: number;
  ts: number;
  comments: Comment[];
  /** Its size on the wire; in the fallbacks, after HTTP's own decompression. */
  bytes: number;
  replay: boolean;
}

export interface StateChange {
  state: RoomState;
  previous: RoomState;
  transport: TransportName | null;
  /** Failed attempts in a row. */
  attempt: number;
  /** While waiting: when the next attempt begins. */
  retryInMs?: number;
  /** Why the connection ended. */
  error?: DanmakuError;
}

export interface RoomEvents {
  /** A comment, when it is due: in the rhythm of the chat, or in step with the video. */
  comment: Comment;
  /** All comments of a batch when it arrives, for chat lists. */
  comments: Comment[];
  /** Remove these comments. None of them is handed out later. */
  retract: { ids: number[] };
  /** The list of comments is no longer valid: empty it. */
  clear: Record<string, never>;
  batch: Batch;
  /** How many are watching. */
  viewers: number;
  /** New likes, and all likes this object has seen. */
  likes: { count: number; total: number };
  /** The comments above `after` up to and including `seq` were missed. */
  gap: { after: number; seq: number };
  /** So many comments were dropped because they came too late or too many were waiting. */
  stale: { count: number };
  state: StateChange;
  /** The server refused something, or the connection failed. If `fatal`, the room is closed. */
  error: DanmakuError;
}

/** Time, replaceable in tests. The functions are called without `this`. */
export interface Clock {
  /** Milliseconds since 1970. */
  now: () => number;
  setTimeout: (callback: () => void, ms: number) => unknown;
  clearTimeout: (timer: any) => void;
}

/**
 * What comments follow: nothing (`null`), a delay in milliseconds, a function that returns the wall-clock time of the
 * frame on screen (or `null` while it isn't known), or a video whose `getStartDate()` says when it began (Safari).
 */
export type SyncSource = null | number | (() => Date | number | null | undefined) | HTMLVideoElement;

export interface RoomOptions {
  /**
   * `?token=` on a WebSocket, `Authorization: Bearer` elsewhere. A function is asked before each attempt, and before the token
   * of a WebSocket expires, so that the connection goes on with a new one.
   */
  token?: string | (() => string | Promise<string>);
  /** `auto`, the default, is the smallest that the runtime can decode. */
  encoding?: 'auto' | Encoding;
  /** How many of the last comments to start with, 0 to 500; 50 unless told. */
  history?: number;
  /** Which transports to try, in this order; all three unless told. */
  transports?: TransportName[];
  /** `false` hands comments out as soon as they arrive. */
  paced?: boolean;
  /** The default author of `post()`. */
  user?: string;
  name?: string;
  /** How many comments may wait to be handed out (500). Beyond that, the oldest are dropped. */
  pendingMax?: number;
  /** How late a comment may be (10,000 ms), for example after the page was in the background. */
  staleMs?: number;
  /** `false` waits for `connect()`. */
  autoConnect?: boolean;
  WebSocket?: any;
  fetch?: typeof fetch;
  clock?: Clock;
}

export interface RoomStats {
  bytes: number;
  frames: number;
  comments: number;
  /** How often the connection was lost. */
  reconnects: number;
  /** Comments dropped because they came too late or too many were waiting. */
  stale: number;
  /** From the sealing of the last live batch to its arrival; includes the difference of the two clocks. */
  latencyMs: number | null;
}

/** A room of a danmaku server, watched from now on. */
export class DanmakuRoom {
  /** @param url the server, `https://chat.example.com` or with a path prefix; `ws(s)` works too */
  constructor(url: string | URL, room: string, options?: RoomOptions);
  readonly room: string;
  readonly state: RoomState;
  /** Which transport is in use; `null` while there is none. */
  readonly transport: TransportName | null;
  /** How batches are packed on a WebSocket; `null` elsewhere, where HTTP does that. */
  readonly encoding: Encoding | null;
  readonly position: Position | null;
  readonly viewers: number;
  /** Likes seen since this object was made. */
  readonly likes: number;
  readonly stats: RoomStats;
  /** Returns a function that unsubscribes. */
  on<K extends keyof RoomEvents>(type: K, listener: (detail: RoomEvents[K]) => void): () => void;
  once<K extends keyof RoomEvents>(type: K, listener: (detail: RoomEvents[K]) => void): () => void;
  off<K extends keyof RoomEvents>(type: K, listener: (detail: RoomEvents[K]) => void): void;
  /** Connects. A room that waits for its next attempt makes it now: call this when the browser is `online` again. */
  connect(): void;
  /** Posts a comment. Resolves once the server has it; rejects with a `DanmakuError`. */
  post(comment: string | Post): Promise<Accepted>;
  /** Adds likes; sent at most once a second. */
  like(count?: number): void;
  /** Hands comments out in step with a video; `null` ends that. */
  syncTo(source: SyncSource): void;
  close(): void;
}

/** Where an accepted comment is. */
export interface Accepted {
  /** Its position; 0 for one that is held. */
  id: number;
  epoch: number;
  /** Set if a moderator has to allow the comment first. */
  held?: number;
}

/** Everything that can go wrong. */
export class DanmakuError extends Error {
  constructor(code: string, message: string, details?: ErrorDetails);
  /**
   * The server's code (docs/PROTOCOL.md), the name of a close code, or one of `network`, `corrupted_frame`, `closed`,
   * `timeout`, `unauthorized`, `too_many_pending` (20 posts have no answer yet).
   */
  readonly code: string;
  /** The member of the comment that is at fault. */
  readonly field?: string;
  /** Trying again makes sense after this time. */
  readonly retryAfterMs?: number;
  /** The HTTP status. */
  readonly status?: number;
  /** It closed the room. */
  readonly fatal: boolean;
}

export interface ErrorDetails {
  field?: string;
  retryAfterMs?: number;
  status?: number;
  fatal?: boolean;
  cause?: unknown;
}

/** A comment as the SDK (`danmaku-room`) hands it out; only `text` is needed. */
export interface StageComment {
  text: string;
  id?: number;
  user?: string;
  mode?: 'scroll' | 'top' | 'bottom';
  /** `0xRRGGBB`; white unless given. */
  color?: number;
  /** Font size in CSS pixels before `fontScale`; 25 unless given. */
  size?: number;
  /** The viewer posted it: never blocked, always shown, and framed. */
  own?: boolean;
}

/** Numbers outside their range are set to its nearer end. */
export interface StageOptions {
  /** The share of the height that comments may use, 0.1 to 1: scrolling and top ones from the top, bottom ones from the bottom. */
  area?: number;
  /** Comments as a multiple of what fits without overlap, 0.1 to 4. Above 1 they fly in overlapping layers. */
  density?: number;
  /** Multiplies every font size, 0.4 to 3. */
  fontScale?: number;
  /** 0 to 1. */
  opacity?: number;
  /** Multiplies the speed of scrolling comments, 0.25 to 4; also of those on the stage already. */
  speed?: number;
  /** How long a short comment takes to cross the stage, at `speed` 1. */
  durationMs?: number;
  /** How long a top or bottom comment stays. */
  fixedMs?: number;
  /** A comment that contains one of these is not shown. Case and width (`ＡＢＣ`) don't matter. */
  blockedWords?: readonly string[];
  /** Comments whose `user` is one of these are not shown. */
  blockedUsers?: readonly string[];
  paused?: boolean;
  /** Comments appear in place and fade instead of moving. `auto`: what the viewer told the system. */
  reducedMotion?: boolean | 'auto';
  /** A CSS font-family list. */
  fontFamily?: string;
}

/**
 * What became of a comment: `blocked` by the viewer's words and users; `crowded`: no lane is free; `stopped`: the stage is paused,
 * out of sight, of no size, or destroyed. Only `shown` ones are kept.
 */
export type StageOutcome = 'shown' | 'blocked' | 'crowded' | 'stopped';

export interface StageStats {
  /** = shown + blocked + crowded + stopped */
  offered: number;
  shown: number;
  blocked: number;
  crowded: number;
  stopped: number;
  /** Comments on the stage now. */
  onStage: number;
}

/** A layer of live comments over `element`, whose size it follows. It takes no pointer events. */
export declare class DanmakuStage {
  constructor(element: HTMLElement, options?: StageOptions);
  /** Shows a comment now, or says why not. */
  show(comment: StageComment): StageOutcome;
  /** Removes the comments with these ids. */
  retract(ids: Iterable<number>): void;
  /** Removes all comments. */
  clear(): void;
  /** Changes some options. */
  set(options: StageOptions): void;
  pause(): void;
  play(): void;
  /** Pauses whenever this video or audio element does, or stalls; `null` ends that. */
  follow(media: HTMLMediaElement | null): void;
  /** The topmost comment at a point in CSS pixels from the element's top left corner. */
  at(x: number, y: number): StageComment | null;
  /** Whether the viewer's words or users block this comment, for lists that should show the same. */
  blocks(comment: StageComment): boolean;
  stats(): StageStats;
  /** Takes the layer away. */
  destroy(): void;
}

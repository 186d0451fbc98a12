// Live comments that fly over a video.
//
// They are painted on a canvas, each from a bitmap of its own. 480 at once held 60.0 frames a second on average in Chromium
// with software rendering on two cores; elements with compositor animations 57.8.

import { heightOf, layOut, paint } from './bitmap.js';
import { NO_WAIT_MS, choosePlace, topOf } from './lanes.js';

/**
 * @typedef {import('./index.d.ts').StageComment} StageComment
 * @typedef {import('./index.d.ts').StageOptions} StageOptions
 * @typedef {import('./index.d.ts').StageOutcome} StageOutcome
 * @typedef {import('./index.d.ts').DanmakuStage} Stage
 * @typedef {import('./lanes.js').Box & {comment: StageComment, bitmap: ImageBitmap, rank: number}} Item
 */

/** The options that are numbers: unless given, at least, at most. */
const NUMBERS = {
  area: [1, 0.1, 1],
  density: [1, 0.1, 4],
  fontScale: [1, 0.4, 3],
  opacity: [1, 0, 1],
  speed: [1, 0.25, 4],
  durationMs: [8000, 1000, 60_000],
  fixedMs: [4000, 500, 60_000],
};
const FONT_FAMILY = 'system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif';
/** The font size of a comment that names none, CSS pixels. A lane is as high as such a comment. */
const SIZE = 25;
/** The viewer's own comment waits no longer than this for a free lane; then it flies over others. */
const OWN_WAIT_MS_MAX = 1500;
/** Lanes bound what others post; this bounds what the viewer posts, too. */
const ITEMS_MAX = 2000;
/** A late frame moves comments no further than this. */
const STEP_MS_MAX = 100;
const FADE_MS = 250;

/** @param {string} text */
const folded = (text) => text.normalize('NFKC').toLowerCase();

/** @implements {Stage} */
export class DanmakuStage {
  #element;
  #canvas = document.createElement('canvas');
  #context = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext('2d'));
  /** @type {any} */
  #options = { blockedWords: [], blockedUsers: [], reducedMotion: 'auto', fontFamily: FONT_FAMILY };
  /** In the order they are painted. @type {Item[]} */
  #items = [];
  #counts = { offered: 0, shown: 0, blocked: 0, crowded: 0, stopped: 0 };
  #width = 0;
  #height = 0;
  #scale = 1;
  /** Stage time, ms: stands still while the stage does, and runs `speed` times as fast as the clock. */
  #now = 0;
  /** The frame asked for, 0 if none, and when the one before came. */
  #frame = 0;
  #lastFrame = 0;
  /** @type {HTMLMediaElement | null} */
  #media = null;
  #unfollow = new AbortController();
  #destroyed = new AbortController();
  #lessMotion = matchMedia('(prefers-reduced-motion: reduce)');
  #observer = new ResizeObserver(() => this.#resize());

  /** @param {HTMLElement} element @param {StageOptions} [options] */
  constructor(element, options) {
    this.#element = element;
    if (getComputedStyle(element).position === 'static') element.style.position = 'relative';
    this.#canvas.style.cssText = 'position:absolute;inset:0;width:100%;height:100%;pointer-events:none';
    this.#canvas.ariaHidden = 'true';
    element.append(this.#canvas);
    this.#observer.observe(element);
    document.addEventListener('visibilitychange', () => this.#run(), { signal: this.#destroyed.signal });
    this.set({ ...options });
    this.#resize();
  }

  /** @param {StageComment} comment @returns {StageOutcome} */
  show(comment) {
    const outcome = this.#offer(comment);
    this.#counts.offered++;
    this.#counts[outcome]++;
    return outcome;
  }

  /** @param {Iterable<number>} ids */
  retract(ids) {
    const gone = new Set(ids);
    this.#keep(({ comment }) => !gone.has(/** @type {number} */ (comment.id)));
  }

  clear() {
    this.#keep(() => false);
  }

  /** @param {StageOptions} changes */
  set(changes) {
    const options = this.#options;
    for (const [name, value] of Object.entries(changes)) options[name] = value ?? options[name];
    for (const [name, [usual, least, most]] of Object.entries(NUMBERS)) {
      const value = Number(options[name] ?? usual);
      options[name] = Number.isNaN(value) ? usual : Math.min(most, Math.max(least, value));
    }
    this.#canvas.style.opacity = options.opacity;
    this.#run();
  }

  pause() {
    this.set({ paused: true });
  }

  play() {
    this.set({ paused: false });
  }

  /** @param {HTMLMediaElement | null} media */
  follow(media) {
    this.#unfollow.abort();
    this.#unfollow = new AbortController();
    this.#media = media;
    for (const event of ['playing', 'pause', 'waiting', 'seeking', 'seeked', 'emptied']) {
      media?.addEventListener(event, () => this.#run(), this.#unfollow);
    }
    this.#run();
  }

  /** @param {number} x @param {number} y */
  at(x, y) {
    const hit = this.#items.findLast((item) => {
      const [left, top] = this.#positionOf(item);
      const isInside = x >= left && x < left + item.width && y >= top && y < top + item.height;
      return isInside && item.start <= this.#now;
    });
    return hit?.comment ?? null;
  }

  /** @param {StageComment} comment @returns {boolean} */
  blocks({ text, user, own }) {
    const { blockedWords, blockedUsers } = this.#options;
    const plain = folded(text);
    const isBlocked = blockedUsers.includes(user) || blockedWords.some((/** @type {string} */ word) => word && plain.includes(folded(word)));
    return !own && isBlocked;
  }

  stats() {
    return { ...this.#counts, onStage: this.#items.length };
  }

  destroy() {
    this.#destroyed.abort();
    this.#observer.disconnect();
    this.clear();
    this.follow(null);
    this.#canvas.remove();
  }

  /** @param {StageComment} comment @returns {StageOutcome} */
  #offer(comment) {
    if (!this.#isRunning()) return 'stopped';
    if (this.blocks(comment)) return 'blocked';
    const item = this.#place(comment);
    if (!item) return 'crowded';
    this.#items.push(item);
    this.#items.sort((a, b) => a.rank - b.rank);
    this.#run();
    return 'shown';
  }

  /** @param {StageComment} comment @returns {Item | undefined} */
  #place(comment) {
    const { text, mode = 'scroll', color = 0xffffff, size = SIZE, own = false } = comment;
    const { fontScale, fontFamily, durationMs, fixedMs, speed, reducedMotion } = this.#options;
    const stage = { ...this.#options, now: this.#now, width: this.#width, height: this.#height };
    const fixed = mode !== 'scroll' || (reducedMotion === 'auto' ? this.#lessMotion.matches : reducedMotion);
    const layout = layOut(text, size * fontScale, fontFamily, this.#scale, fixed ? stage.width : Infinity, own);
    const { width, height } = layout;
    // A long one takes longer instead of flying too fast to be read.
    const pace = (stage.width + Math.min(width, stage.width)) / durationMs;
    const stay = fixed ? fixedMs * speed : (stage.width + width) / pace;
    const start = stage.now;
    const box = { fixed, fromBottom: mode === 'bottom', width, height, start, end: start + stay, x: stage.width, speed: pace };
    const place = choosePlace(this.#items, box, { ...stage, laneHeight: heightOf(SIZE * fontScale) });
    const isFree = place.waitMs <= NO_WAIT_MS;
    if (this.#items.length >= ITEMS_MAX || !(own || isFree)) return;
    if (!isFree && place.waitMs < OWN_WAIT_MS_MAX) box.start += place.waitMs;
    box.end = box.start + stay;
    // What stands still is painted over what scrolls, and the viewer's own over both.
    const rank = own ? 2 : Number(fixed);
    return { ...box, ...place, comment, bitmap: paint(layout, color, own, this.#scale), rank };
  }

  #isRunning() {
    const media = this.#media;
    const isStalled = media && (media.paused || media.seeking || media.readyState < media.HAVE_FUTURE_DATA);
    const isStill = isStalled || this.#options.paused || document.hidden || this.#destroyed.signal.aborted;
    return !isStill && this.#width > 0 && this.#height > 0;
  }

  /** Asks for frames while something has to move. */
  #run() {
    const isMoving = this.#items.length > 0 && this.#isRunning();
    if (isMoving === this.#frame > 0) return;
    cancelAnimationFrame(this.#frame);
    this.#frame = isMoving ? requestAnimationFrame(this.#step) : 0;
    this.#lastFrame = performance.now();
  }

  /** @param {number} time */
  #step = (time) => {
    this.#now += this.#options.speed * Math.min(STEP_MS_MAX, Math.max(0, time - this.#lastFrame));
    this.#lastFrame = time;
    this.#frame = requestAnimationFrame(this.#step);
    if (devicePixelRatio !== this.#scale) this.#resize();
    this.#keep(({ end }) => end > this.#now);
  };

  #draw() {
    this.#context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    for (const item of this.#items) {
      // Whole device pixels keep the text sharp.
      const [x, y, width, height] = [...this.#positionOf(item), item.width, item.height].map((length) =>
        Math.round(length * this.#scale),
      );
      const fade = Math.min(1, (this.#now - item.start) / FADE_MS, (item.end - this.#now) / FADE_MS);
      this.#context.globalAlpha = item.fixed ? Math.max(0, fade) : 1;
      this.#context.drawImage(item.bitmap, x, y, width, height);
    }
  }

  /** @param {Item} item */
  #positionOf(item) {
    const left = item.fixed ? (this.#width - item.width) / 2 : item.x - item.speed * (this.#now - item.start);
    return [left, topOf(item, this.#height)];
  }

  /** @param {(item: Item) => boolean} isKept */
  #keep(isKept) {
    this.#items = this.#items.filter((item) => {
      const kept = isKept(item);
      // Its pixels may be in the graphics card, out of the garbage collector's sight.
      if (!kept) item.bitmap.close();
      return kept;
    });
    this.#draw();
    this.#run();
  }

  #resize() {
    this.#width = this.#element.clientWidth;
    this.#height = this.#element.clientHeight;
    this.#scale = devicePixelRatio;
    this.#canvas.width = this.#width * this.#scale;
    this.#canvas.height = this.#height * this.#scale;
    // A canvas that changed its size is empty.
    this.#draw();
    this.#run();
  }
}

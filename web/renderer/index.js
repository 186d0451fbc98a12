// Live comments that fly over a video.

import { heightOf, layOut, paint } from './bitmap.js';
import { choosePlace, topOf } from './lanes.js';

/**
 * @typedef {import('./index.d.ts').StageComment} StageComment
 * @typedef {import('./index.d.ts').StageOptions} StageOptions
 * @typedef {import('./index.d.ts').StageOutcome} StageOutcome
 * @typedef {import('./index.d.ts').DanmakuStage} Stage
 * @typedef {import('./lanes.js').Box & {comment: StageComment, bitmap: ImageBitmap}} Item
 */

/** @type {Required<StageOptions>} */
const DEFAULTS = {
  area: 1,
  density: 1,
  fontScale: 1,
  opacity: 1,
  speed: 1,
  durationMs: 8000,
  fixedMs: 4000,
  blockedWords: [],
  blockedUsers: [],
  paused: false,
  reducedMotion: 'auto',
  fontFamily:
    'system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans", "Noto Sans CJK SC", sans-serif',
};
/** Least and most of the options that are numbers. */
const RANGES = /** @type {const} */ ([
  ['area', 0.1, 1],
  ['density', 0.1, 4],
  ['fontScale', 0.4, 3],
  ['opacity', 0, 1],
  ['speed', 0.25, 4],
  ['durationMs', 1000, 60_000],
  ['fixedMs', 500, 60_000],
]);
/** The font size of a comment that names none, CSS pixels. A lane is as high as such a comment. */
const SIZE = 25;
/** The viewer's own comment waits no longer than this for a free lane; then it flies over others. */
const OWN_WAIT_MS_MAX = 1500;
/** Lanes bound what others post; this bounds what the viewer posts, too. */
const ITEMS_MAX = 2000;
/** A late frame moves comments no further than this. */
const STEP_MS_MAX = 100;
/** A stage that gets no frame for so long is out of sight: a covered window, an iframe scrolled away. */
const UNSEEN_MS = 1000;
const FADE_MS = 250;
/** Events after which a media element may have stopped or gone on. */
const MEDIA_EVENTS = ['play', 'playing', 'pause', 'waiting', 'seeking', 'seeked', 'canplay', 'emptied', 'ended'];

/** @param {string} text */
const folded = (text) => text.normalize('NFKC').toLowerCase();

/** @implements {Stage} */
export class DanmakuStage {
  #element;
  #canvas = document.createElement('canvas');
  #context = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext('2d'));
  #options = DEFAULTS;
  /** @type {string[]} */
  #blockedWords = [];
  /** In the order they are painted. @type {Item[]} */
  #items = [];
  #counts = { offered: 0, shown: 0, blocked: 0, crowded: 0, stopped: 0 };
  #width = 0;
  #height = 0;
  #scale = 1;
  /** Stage time, ms: stands still while the stage does. */
  #now = 0;
  /** The frame asked for, 0 if none, and when the one before came. */
  #frame = 0;
  #lastFrame = 0;
  /** @type {HTMLMediaElement | null} */
  #media = null;
  #unfollow = new AbortController();
  #end = new AbortController();
  #reducedMotion = matchMedia('(prefers-reduced-motion: reduce)');
  #observer = new ResizeObserver(() => this.#resize());

  /** @param {HTMLElement} element @param {StageOptions} [options] */
  constructor(element, options = {}) {
    this.#element = element;
    if (getComputedStyle(element).position === 'static') element.style.position = 'relative';
    const style = { position: 'absolute', inset: '0', width: '100%', height: '100%', pointerEvents: 'none' };
    Object.assign(this.#canvas.style, style);
    this.#canvas.setAttribute('aria-hidden', 'true');
    element.append(this.#canvas);
    this.#observer.observe(element);
    document.addEventListener('visibilitychange', () => this.#run(), { signal: this.#end.signal });
    this.set(options);
    this.#resize();
    this.#watchScale();
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
    this.#keep(({ comment }) => comment.id === undefined || !gone.has(comment.id));
    this.#draw();
  }

  clear() {
    this.#keep(() => false);
    this.#draw();
  }

  /** @param {StageOptions} options */
  set(options) {
    const before = this.#options;
    const next = { ...before, ...options };
    for (const [name, least, most] of RANGES) {
      next[name] = Number.isFinite(next[name]) ? Math.min(most, Math.max(least, next[name])) : before[name];
    }
    this.#options = next;
    this.#blockedWords = next.blockedWords.map(folded).filter(Boolean);
    this.#canvas.style.opacity = String(next.opacity);
    this.#changeSpeed(next.speed / before.speed);
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
    for (const name of MEDIA_EVENTS) media?.addEventListener(name, () => this.#run(), { signal: this.#unfollow.signal });
    this.#run();
  }

  /** @param {number} x @param {number} y */
  at(x, y) {
    const hit = this.#items.findLast((item) => {
      const left = this.#leftOf(item);
      const top = topOf(item, this.#height);
      const isInside = x >= left && x < left + item.width && y >= top && y < top + item.height;
      return isInside && item.start <= this.#now;
    });
    return hit?.comment ?? null;
  }

  stats() {
    return { ...this.#counts, onStage: this.#items.length };
  }

  destroy() {
    this.follow(null);
    this.#end.abort();
    this.#observer.disconnect();
    this.clear();
    this.#run();
    this.#canvas.remove();
  }

  /** @param {StageComment} comment @returns {StageOutcome} */
  #offer(comment) {
    const isUnseen = this.#frame !== 0 && performance.now() - this.#lastFrame > UNSEEN_MS;
    if (!this.#isRunning() || isUnseen) return 'stopped';
    if (!comment.own && this.#isBlocked(comment)) return 'blocked';
    const item = this.#place(comment);
    if (!item) return 'crowded';
    this.#items.push(item);
    // What stands still is painted over what scrolls, and the viewer's own over both.
    const rank = (/** @type {Item} */ { fixed, comment: { own } }) => (own ? 2 : Number(fixed));
    this.#items.sort((a, b) => rank(a) - rank(b));
    this.#run();
    return 'shown';
  }

  /** @param {StageComment} comment */
  #isBlocked({ text, user }) {
    if (user !== undefined && this.#options.blockedUsers.includes(user)) return true;
    const plain = this.#blockedWords.length > 0 ? folded(text) : '';
    return this.#blockedWords.some((word) => plain.includes(word));
  }

  /** @param {StageComment} comment @returns {Item | null} */
  #place(comment) {
    const { text, mode = 'scroll', color = 0xffffff, size = SIZE, own = false } = comment;
    const { fontScale, fontFamily, durationMs, fixedMs, speed, area, density } = this.#options;
    if (this.#items.length >= ITEMS_MAX) return null;
    const scale = this.#scale;
    const fixed = mode !== 'scroll' || this.#isStill();
    const room = fixed ? this.#width : Infinity;
    const layout = layOut(text, { size: size * fontScale, family: fontFamily, scale, room, own });
    const { width, height } = layout;
    // A long one takes longer instead of flying too fast to be read.
    const pace = ((this.#width + Math.min(width, this.#width)) / durationMs) * speed;
    const durations = fixed ? fixedMs : (this.#width + width) / pace;
    const stage = { now: this.#now, width: this.#width, height: this.#height, area, density };
    const box = {
      ...{ fixed, fromBottom: mode === 'bottom', offset: 0, layer: 0, width, height },
      ...{ start: this.#now, end: this.#now + durations, x: this.#width, speed: pace },
    };
    const { offset, layer, waitMs } = choosePlace(this.#items, box, { ...stage, laneHeight: heightOf(SIZE * fontScale) });
    if (waitMs > 0 && !own) return null;
    const delay = waitMs > OWN_WAIT_MS_MAX ? 0 : waitMs;
    const bitmap = paint(layout, color, own, scale);
    return { ...box, offset, layer, start: box.start + delay, end: box.end + delay, comment, bitmap };
  }

  #isStill() {
    const { reducedMotion } = this.#options;
    return reducedMotion === 'auto' ? this.#reducedMotion.matches : reducedMotion;
  }

  #isRunning() {
    const media = this.#media;
    const isStalled = media !== null && (media.paused || media.seeking || media.readyState < media.HAVE_FUTURE_DATA);
    const isSeen = !document.hidden && this.#width > 0 && this.#height > 0;
    return isSeen && !isStalled && !this.#options.paused && !this.#end.signal.aborted;
  }

  /** Asks for frames if something has to move, and for none otherwise. */
  #run() {
    const isMoving = this.#items.length > 0 && this.#isRunning();
    if (isMoving === (this.#frame !== 0)) return;
    cancelAnimationFrame(this.#frame);
    this.#frame = isMoving ? requestAnimationFrame(this.#step) : 0;
    this.#lastFrame = performance.now();
  }

  /** @param {number} time */
  #step = (time) => {
    this.#now += Math.min(STEP_MS_MAX, Math.max(0, time - this.#lastFrame));
    this.#lastFrame = time;
    this.#frame = 0;
    this.#keep(({ end }) => end > this.#now);
    this.#draw();
    if (this.#items.length > 0) this.#frame = requestAnimationFrame(this.#step);
  };

  #draw() {
    const context = this.#context;
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    for (const item of this.#items) {
      const age = this.#now - item.start;
      if (age < 0) continue;
      // Whole device pixels keep the text sharp.
      const [left, top, width, height] = [this.#leftOf(item), topOf(item, this.#height), item.width, item.height] //
        .map((length) => Math.round(length * this.#scale));
      context.globalAlpha = item.fixed ? Math.min(1, age / FADE_MS, (item.end - this.#now) / FADE_MS) : 1;
      context.drawImage(item.bitmap, left, top, width, height);
    }
  }

  /** @param {Item} item */
  #leftOf({ fixed, width, x, speed, start }) {
    return fixed ? (this.#width - width) / 2 : x - speed * (this.#now - start);
  }

  /** @param {(item: Item) => boolean} isKept */
  #keep(isKept) {
    let kept = 0;
    for (const item of this.#items) {
      if (isKept(item)) this.#items[kept++] = item;
      // Its pixels may be in the graphics card, out of the garbage collector's sight.
      else item.bitmap.close();
    }
    this.#items.length = kept;
  }

  /** Comments go on from where they are; as all change by one factor, none catches up with another. @param {number} factor */
  #changeSpeed(factor) {
    if (factor === 1) return;
    for (const item of this.#items) {
      if (item.fixed) continue;
      item.speed *= factor;
      item.start = this.#now + (item.start - this.#now) / factor;
      item.end = this.#now + (item.end - this.#now) / factor;
    }
  }

  #resize() {
    const { clientWidth, clientHeight } = this.#element;
    this.#width = clientWidth;
    this.#height = clientHeight;
    this.#scale = devicePixelRatio || 1;
    this.#canvas.width = Math.round(clientWidth * this.#scale);
    this.#canvas.height = Math.round(clientHeight * this.#scale);
    // A canvas that changed its size is empty until the next frame.
    this.#draw();
    this.#run();
  }

  #watchScale() {
    const onChange = () => {
      this.#resize();
      this.#watchScale();
    };
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    query.addEventListener('change', onChange, { once: true, signal: this.#end.signal });
  }
}

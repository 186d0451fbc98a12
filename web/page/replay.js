// Replays a recorded room at `/?room=ROOM&replay` (the last stream) or `&replay=ID`: its comments at the times of the page's
// video, or of a clock if there is none. Loaded only then.

import { make } from './panel.js';
import { hideProblem, showProblem } from './player.js';
import { addStrings, translate } from './strings.js';

addStrings({
  replay: ['Replay', '回放'],
  seek: ['Position', '播放进度'],
  speed: ['Speed', '播放速度'],
  replay_failed: ["Can't load the recording. Trying again…", '回放加载失败,正在重试…'],
  replay_missing: ['There is no such recording', '没有这段录像'],
});

const TICK_MS = 100;
/** Comments are read this long before they are due, a page at a time. */
const AHEAD_MS = 30_000;
const PAGE_LIMIT = 1000;
/** After a jump, the chat starts with this many of the comments before it. */
const HISTORY = 50;
/** More than this between two ticks, and the video was moved or the page was in the background. */
const JUMP_MS = 2000;
/** The last comments still fly for a while. */
const TAIL_MS = 8000;
const RETRY_MS = 2000;
const HEAT_STEPS = 200;
const SPEEDS = [0.5, 1, 1.5, 2, 4];
const ARROW_MS = 5000;
/** Shortcuts for what a replay does not have: writing, liking, figures. */
const LIVE_KEYS = ['KeyC', 'KeyL', 'KeyE'];

/** Shows the controls and starts to play. */
export async function open(context) {
  const replay = new Replay(context);
  await replay.load(new URLSearchParams(location.search).get('replay'));
}

class Replay {
  #context;
  #api;
  #video = document.getElementById('video');
  #player = document.getElementById('player');
  #bar = make('div', { id: 'replay' });
  #slider = make('input', { type: 'range', min: 0, step: 'any', value: 0 });
  #time = make('output');
  #heat = make('canvas', { ariaHidden: true });
  #clock = new Clock();
  /** The recording: when it began and ended, Unix time in ms. */
  #start = 0;
  #end = 0;
  #feed;
  /** Where the last tick was, ms since the start. */
  #at = 0;

  constructor(context) {
    this.#context = context;
    this.#api = (path) => new URL(`v1/rooms/${context.name}/${path}`, context.base);
  }

  async load(id) {
    document.body.classList.add('replaying');
    document.head.append(make('link', { rel: 'stylesheet', href: new URL('replay.css', import.meta.url) }));
    const recording = await patiently(() => this.#find(id));
    if (!recording) {
      document.body.classList.add('missing');
      return showProblem('replay_missing');
    }
    this.#start = recording.start;
    this.#end = recording.end;
    this.#feed = new Feed(this.#api, this.#start, this.#end);
    this.#video.loop = false;
    this.#show(recording.title);
    this.#jump(0);
    setInterval(() => this.#tick(), TICK_MS);
    this.#drawHeat().catch(() => this.#heat.remove());
  }

  /** The stream, or all of the room if no stream was recorded. */
  async #find(id) {
    const { streams } = await read(this.#api('streams'));
    const stream = id ? streams.find((stream) => String(stream.id) === id) : streams.at(-1);
    if (id && !stream) return undefined;
    const start = stream?.start ?? (await read(this.#api('comments'))).comments[0]?.ts;
    if (start === undefined) return undefined;
    const next = streams.find((other) => other.start > start)?.start ?? Number.MAX_SAFE_INTEGER;
    const to = stream?.end ?? next;
    const last = (await read(this.#api(`comments?order=newest&from=${start}&to=${to}`))).comments[0]?.ts ?? start;
    return { start, end: stream?.end ?? Math.min(last + TAIL_MS, next), title: stream?.title ?? '' };
  }

  #show(title) {
    const name = make('b', {}, 'replay');
    const speed = make('select', { onchange: () => this.#setSpeed(Number(speed.value)) });
    speed.append(...SPEEDS.map((factor) => make('option', { value: factor, textContent: `${factor}×`, selected: factor === 1 })));
    speed.dataset.label = 'speed';
    this.#slider.dataset.label = 'seek';
    this.#slider.max = this.#end - this.#start;
    this.#slider.oninput = () => this.seek(Number(this.#slider.value));
    const track = make('div', { className: 'track' });
    track.append(this.#heat, this.#slider);
    this.#bar.append(name, make('span', { textContent: title, title }), this.#time, speed, track);
    this.#player.querySelector('.chrome').before(this.#bar);
    if (title) document.title = `${title} – ${this.#context.name}`;
    translate(this.#bar);
    addEventListener('keydown', (event) => this.#pressed(event));
    addEventListener('keydown', (event) => LIVE_KEYS.includes(event.code) && event.stopImmediatePropagation(), true);
  }

  #pressed({ key, target, ctrlKey, metaKey, altKey }) {
    const step = { ArrowLeft: -ARROW_MS, ArrowRight: ARROW_MS }[key];
    if (step && !ctrlKey && !metaKey && !altKey && !target.closest('input, select, dialog, #log')) this.seek(this.#now() + step);
  }

  #hasVideo() {
    return !this.#video.hidden;
  }

  #now() {
    return this.#hasVideo() ? this.#video.currentTime * 1000 : this.#clock.now(this.#end - this.#start);
  }

  /** Goes to `at` ms after the start. */
  seek(at) {
    const within = Math.min(Math.max(at, 0), this.#end - this.#start);
    if (this.#hasVideo()) this.#video.currentTime = within / 1000;
    this.#clock.seek(within);
    this.#jump(within);
  }

  #setSpeed(speed) {
    this.#clock.setSpeed(speed);
    this.#video.playbackRate = speed;
  }

  /** Starts over at `at`: an empty stage, and the chat with what came just before. */
  #jump(at) {
    const { chat, stage } = this.#context;
    this.#at = at;
    stage.clear();
    chat.clear();
    this.#feed.seek(this.#start + at, (before) => this.#say(before.map((comment) => ({ ...comment, replay: true }))));
    this.#showTime();
  }

  #tick() {
    this.#clock.run(!this.#player.classList.contains('paused'));
    const now = this.#now();
    // The clock goes on from here if the video fails.
    if (this.#hasVideo()) this.#clock.seek(now);
    if (now < this.#at || now > this.#at + JUMP_MS * Math.max(1, this.#clock.speed)) return this.#jump(now);
    this.#at = now;
    const due = this.#feed.due(this.#start + now);
    if (this.#context.settings.get('show')) for (const comment of due) this.#context.stage.show(comment);
    this.#say(due);
    this.#showTime();
  }

  #say(comments) {
    const { chat, stage } = this.#context;
    const shown = comments.filter((comment) => !stage.blocks(comment));
    if (shown.length) chat.add(shown);
  }

  #showTime() {
    const all = this.#end - this.#start;
    this.#time.textContent = `${clockText(this.#at)} / ${clockText(all)}`;
    this.#slider.value = this.#at;
    this.#slider.style.setProperty('--done', `${all ? (100 * this.#at) / all : 0}%`);
    this.#slider.ariaValueText = this.#time.textContent;
  }

  /** Draws how many comments there were over time, if the server says so. */
  async #drawHeat() {
    const step = Math.max(1000, Math.ceil((this.#end - this.#start) / HEAT_STEPS));
    const { comments } = await read(this.#api(`stats?from=${this.#start}&to=${this.#end}&step=${step}`));
    const [width, height] = [HEAT_STEPS * 4, 48];
    Object.assign(this.#heat, { width, height });
    const ctx = this.#heat.getContext('2d');
    const most = Math.max(1, ...comments);
    ctx.fillStyle = '#ffffff66';
    ctx.beginPath();
    ctx.moveTo(0, height);
    comments.forEach((n, index) => ctx.lineTo(((index + 0.5) / comments.length) * width, height * (1 - n / most)));
    ctx.lineTo(width, height);
    ctx.fill();
  }
}

/** A clock that can be stopped, moved, and made faster. */
class Clock {
  speed = 1;
  #at = 0;
  /** When it was set going; 0 while it stands still. */
  #since = 0;

  now(max) {
    const passed = this.#since && (performance.now() - this.#since) * this.speed;
    return Math.min(this.#at + passed, max);
  }

  seek(at) {
    this.#at = at;
    if (this.#since) this.#since = performance.now();
  }

  setSpeed(speed) {
    this.seek(this.now(Infinity));
    this.speed = speed;
  }

  run(runs) {
    if (runs === this.#since > 0) return;
    this.seek(this.now(Infinity));
    this.#since = runs ? performance.now() : 0;
  }
}

/** The comments of a recording in their order, read in pages ahead of time. */
class Feed {
  #api;
  #start;
  #end;
  #waiting = [];
  /** What the next page is read after: a time, then a position. */
  #next = '';
  #isDone = true;
  #isReading = false;
  /** Counts jumps: what was read before one is not shown after it. */
  #jumps = 0;

  constructor(api, start, end) {
    this.#api = api;
    this.#start = start;
    this.#end = end;
  }

  /** Starts over at the time `ts`, and hands over some of what came before it. */
  async seek(ts, before) {
    const jump = (this.#jumps += 1);
    this.#waiting = [];
    this.#next = `from=${Math.ceil(ts)}`;
    this.#isDone = false;
    this.#isReading = false;
    if (ts <= this.#start) return;
    const path = `comments?order=newest&limit=${HISTORY}&from=${this.#start}&to=${Math.ceil(ts)}`;
    const page = await patiently(() => read(this.#api(path)));
    if (jump === this.#jumps && page?.comments.length) before(page.comments.reverse());
  }

  /** Takes what is due at the time `ts`. */
  due(ts) {
    this.#read(ts);
    const index = this.#waiting.findIndex((comment) => comment.ts > ts);
    return this.#waiting.splice(0, index < 0 ? this.#waiting.length : index);
  }

  async #read(ts) {
    if (this.#isDone || this.#isReading || this.#waiting.at(-1)?.ts > ts + AHEAD_MS) return;
    const jump = this.#jumps;
    this.#isReading = true;
    const path = `comments?limit=${PAGE_LIMIT}&to=${this.#end}&${this.#next}`;
    const page = await patiently(() => read(this.#api(path)));
    if (jump !== this.#jumps) return;
    this.#isReading = false;
    this.#isDone = !page?.more;
    if (!page) return;
    const { epoch, seq, comments } = page;
    this.#waiting.push(...comments.map((comment) => ({ mode: 'scroll', color: 0xffffff, size: 25, ...comment })));
    this.#next = `since=${epoch}:${seq}`;
  }
}

async function read(url) {
  const response = await fetch(url);
  const body = await response.json();
  if (response.ok) return body;
  throw Object.assign(new Error(body.error?.message), { status: response.status });
}

/** Tries again until it works, or the server says that there is no such room; then the result is undefined. */
async function patiently(work) {
  for (;;) {
    try {
      const result = await work();
      hideProblem('replay_failed');
      return result;
    } catch ({ status }) {
      if (status === 404 || status === 400) return undefined;
      showProblem('replay_failed');
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}

/** 1:02:03 */
function clockText(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (n) => String(n % 60).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60);
  return hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}

// The engineer's panel: how many bytes it takes, and how fast it is.

import { make, styled } from './panel.js';
import { addStrings, count, translate } from './strings.js';

const SECONDS = 60;
const TILES = ['per_comment', 'comments', 'frames', 'bytes', 'latency', 'animation'];

addStrings({
  per_comment: ['bytes per comment', '字节 / 条'],
  comments: ['comments/s', '条 / 秒'],
  frames: ['messages/s', '消息 / 秒'],
  bytes: ['bytes/s', '字节 / 秒'],
  latency: ['ms latency', '延迟(毫秒)'],
  animation: ['animation frames/s', '动画帧 / 秒'],
});

let panel;

/** Shows the panel, or hides it: as the settings say. */
export async function open({ settings, room, scene }) {
  panel ??= new Figures(room, scene);
  await styled();
  panel.section.hidden = !settings.get('figures');
}

class Figures {
  section = make('section', { id: 'figures' });
  #room;
  #scene;
  #samples = [];
  #tiles = {};
  #facts = make('p');

  constructor(room, scene) {
    this.#room = room;
    this.#scene = scene;
    this.section.dataset.label = 'figures';
    for (const key of TILES) {
      const tile = make('div');
      this.#tiles[key] = { value: make('b'), chart: make('canvas', { width: 160, height: 36, ariaHidden: 'true' }), history: [] };
      tile.append(this.#tiles[key].value, make('span', {}, key), this.#tiles[key].chart);
      this.section.append(tile);
    }
    this.section.append(this.#facts);
    document.querySelector('main').append(this.section);
    translate(this.section.parentElement);
    this.#sample();
    setInterval(() => this.#sample(), 1000);
  }

  #sample() {
    const { stats, transport, encoding, position } = this.#room;
    const { bytes, frames, comments, latencyMs } = stats;
    this.#samples = [...this.#samples.slice(-SECONDS), { now: performance.now(), bytes, frames, comments, animation: this.#scene.frames }];
    const [first, before, last] = [0, -2, -1].map((index) => this.#samples.at(index) ?? this.#samples[0]);
    const rate = (key) => (last[key] - before[key]) / ((last.now - before.now) / 1000);
    this.#show('per_comment', (last.bytes - first.bytes) / (last.comments - first.comments), 1);
    for (const key of ['comments', 'frames', 'bytes', 'animation']) this.#show(key, rate(key));
    this.#show('latency', latencyMs);
    this.#facts.textContent = [transport, encoding, position && `${position.epoch}:${position.seq}`].filter(Boolean).join(' · ');
  }

  #show(key, number, digits = 0) {
    const { value, chart, history } = this.#tiles[key];
    const isKnown = Number.isFinite(number);
    value.textContent = !isKnown ? '–' : number < 10_000 ? number.toFixed(digits) : count(number);
    history.push(isKnown ? number : 0);
    history.splice(0, history.length - SECONDS);
    if (!this.section.hidden) draw(chart, history);
  }
}

/** A line of the last minute, as high as its highest value. */
function draw(chart, history) {
  const { width, height } = chart;
  const context = chart.getContext('2d');
  const highest = Math.max(...history, 1) * 1.1;
  const step = width / (SECONDS - 1);
  context.clearRect(0, 0, width, height);
  context.beginPath();
  history.forEach((value, index) => context.lineTo(width - (history.length - 1 - index) * step, height - 2 - (value / highest) * (height - 4)));
  context.strokeStyle = context.fillStyle = getComputedStyle(chart).color;
  context.lineWidth = 2;
  context.stroke();
  context.lineTo(width, height);
  context.lineTo(width - (history.length - 1) * step, height);
  context.globalAlpha = 0.15;
  context.fill();
  context.globalAlpha = 1;
}

// A clock on a canvas in place of a live video that runs 8 s behind, may be paused, and moved back and forth.

import { DanmakuStage } from '../renderer/index.js';
import { DanmakuRoom } from '../sdk/index.js';

const query = new URLSearchParams(location.search);
const find = (selector) => document.querySelector(selector);

/** What hls.js calls `playingDate`: when the frame on screen was made. */
const video = {
  behindMs: 8000,
  pausedAt: null,
  get playingDate() {
    return new Date(this.pausedAt ?? Date.now() - this.behindMs);
  },
  seek(ms) {
    const target = Math.min(this.playingDate.getTime() + ms, Date.now());
    if (this.pausedAt === null) this.behindMs = Date.now() - target;
    else this.pausedAt = target;
  },
  toggle() {
    if (this.pausedAt === null) {
      this.pausedAt = this.playingDate.getTime();
    } else {
      this.behindMs = Date.now() - this.pausedAt;
      this.pausedAt = null;
    }
  },
};

const stage = new DanmakuStage(find('#player'));
const room = new DanmakuRoom(query.get('server') ?? 'http://127.0.0.1:8080', query.get('room') ?? 'demo');
room.syncTo(() => video.playingDate);
room.on('comment', (comment) => {
  stage.show(comment);
  const line = document.createElement('li');
  line.textContent = `${time(new Date(comment.ts))} ${comment.text}`;
  find('ol').prepend(line);
  if (find('ol').childElementCount > 20) find('ol').lastElementChild.remove();
});
room.on('retract', ({ ids }) => stage.retract(ids));
room.on('clear', () => stage.clear());

find('#play').addEventListener('click', () => {
  video.toggle();
  find('#play').textContent = video.pausedAt === null ? 'Pause' : 'Play';
});
for (const button of document.querySelectorAll('[data-seek]')) {
  button.addEventListener('click', () => {
    video.seek(Number(button.dataset.seek) * 1000);
    stage.clear();
  });
}

const picture = find('canvas').getContext('2d');
function draw() {
  const { width, height } = picture.canvas;
  const date = video.playingDate;
  picture.fillStyle = `hsl(${(date.getTime() / 200) % 360} 40% 20%)`;
  picture.fillRect(0, 0, width, height);
  picture.fillStyle = '#fff';
  picture.textAlign = 'center';
  picture.font = '96px system-ui, sans-serif';
  picture.fillText(time(date), width / 2, height / 2);
  find('output').textContent = `${((Date.now() - date.getTime()) / 1000).toFixed(1)} s behind`;
  requestAnimationFrame(draw);
}
draw();

function time(date) {
  return `${date.toLocaleTimeString('en-GB')}.${Math.floor(date.getMilliseconds() / 100)}`;
}

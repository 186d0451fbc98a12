// The scene that stands for the video: a city by the water at night, under an aurora.
// What does not change is painted once; a frame is mostly copies of bitmaps.

const HORIZON = 0.7;
const WIDTH_MAX = 1280;
const FRAME_MS_MIN = 40;
const FRAME_MS_MAX = 640;
/** With more time than this between two frames of the browser, the page is falling behind. */
const BUSY_MS = 18.5;
/** Rows of houses from far to near: the height of the highest (of the scene's), colour, and drift (scene widths in 1,000 s). */
const ROWS = [[0.24, '#1a264c', 1.5], [0.33, '#111a38', 4], [0.2, '#0a0e20', 9]];

export class Scene {
  running = false;
  /** Frames of the browser so far, whether the scene drew in them or not. */
  frames = 0;
  #ctx;
  #still;
  #sky;
  #rows;
  #aurora = surface(72, 36);
  #time = 0;
  #last = 0;
  #drawn = 0;
  #interval = FRAME_MS_MIN;

  /** With `still`, a picture that does not move. */
  constructor(canvas, still) {
    this.#ctx = canvas.getContext('2d', { alpha: false });
    this.#still = still;
    new ResizeObserver(() => this.#resize(canvas)).observe(canvas);
    requestAnimationFrame((now) => this.#tick(now));
  }

  #tick(now) {
    requestAnimationFrame((next) => this.#tick(next));
    const passed = now - this.#last;
    this.#last = now;
    this.frames += 1;
    if (!this.running || this.#still || !this.#sky) return;
    this.#time += Math.min(passed, 100) / 1000;
    // The comments come first: when frames are late, the scene draws fewer.
    const interval = this.#interval * (passed > BUSY_MS ? 1.05 : 0.995);
    this.#interval = Math.min(Math.max(interval, FRAME_MS_MIN), FRAME_MS_MAX);
    if (now - this.#drawn < interval) return;
    this.#drawn = now;
    this.#draw();
  }

  #resize({ clientWidth, clientHeight }) {
    if (!clientWidth || !clientHeight) return;
    const scale = Math.min(devicePixelRatio, WIDTH_MAX / clientWidth);
    const [width, height] = [clientWidth * scale, clientHeight * scale].map(Math.round);
    Object.assign(this.#ctx.canvas, { width, height });
    this.#sky = sky(width, height);
    this.#rows = ROWS.map(([share, color], index) => houses(width, height, share, color, index + 1));
    this.#draw();
  }

  #draw() {
    const ctx = this.#ctx;
    const { width, height } = ctx.canvas;
    const horizon = Math.round(height * HORIZON);
    const time = this.#time;
    ctx.drawImage(this.#sky, 0, 0);
    stars(ctx, width, horizon, time);
    curtains(this.#aurora, time);
    ctx.globalCompositeOperation = 'lighter';
    ctx.drawImage(this.#aurora.canvas, 0, 0, width, horizon);
    ctx.globalCompositeOperation = 'source-over';
    this.#rows.forEach((row, index) => {
      if (index === 2) wheel(ctx, width * 0.24, horizon, height * 0.21, time);
      const shift = (time * ROWS[index][2] * width * 0.001) % width;
      ctx.drawImage(row, -shift, horizon - row.height);
      ctx.drawImage(row, width - shift, horizon - row.height);
    });
    train(ctx, width, horizon, time);
    // The water: the city upside down, each strip swaying on its own, under the water's tint.
    const strip = Math.max(2, Math.round(height / 150));
    for (let y = horizon; y < height; y += strip) {
      const sway = Math.sin((y * 0.35) / strip + time * 1.7) * (1 + (y - horizon) / 25);
      ctx.drawImage(ctx.canvas, 0, horizon - (y - horizon) * 1.5 - strip, width, strip, sway, y, width, strip);
    }
    ctx.drawImage(this.#sky, 0, horizon, width, height, 0, horizon, width, height);
  }
}

function surface(width, height) {
  return Object.assign(document.createElement('canvas'), { width, height }).getContext('2d');
}

/** Numbers from 0 to 1, the same on every visit. */
function dice(seed) {
  return () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647;
}

function gradient(ctx, from, to, ...colors) {
  const fill = ctx.createLinearGradient(0, from, 0, to);
  for (const [stop, color] of colors) fill.addColorStop(stop, color);
  ctx.fillStyle = fill;
}

function disc(ctx, x, y, radius, color) {
  ctx.fillStyle = color;
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 7);
  ctx.fill();
}

/** The night sky with its moon; below the horizon, the tint of the water. */
function sky(width, height) {
  const ctx = surface(width, height);
  const horizon = Math.round(height * HORIZON);
  gradient(ctx, 0, horizon, [0, '#060a1f'], [0.45, '#10194a'], [0.75, '#35286b'], [0.9, '#8a3f80'], [1, '#d9707a']);
  ctx.fillRect(0, 0, width, horizon);
  for (let ring = 40; ring > 1; ring -= 1) disc(ctx, width * 0.79, height * 0.2, height * 0.0525 * 1.05 ** ring, '#ffdcae05');
  disc(ctx, width * 0.79, height * 0.2, height * 0.055, '#fff1d6');
  ctx.clearRect(0, horizon, width, height);
  gradient(ctx, horizon, height, [0, '#2a1f5266'], [1, '#050817f0']);
  ctx.fillRect(0, horizon, width, height);
  return ctx.canvas;
}

/** A row of houses as wide as the scene. */
function houses(width, height, share, color, seed) {
  const random = dice(seed * 7919);
  const ctx = surface(width, Math.ceil(height * share));
  const bottom = ctx.canvas.height;
  const unit = height / 100;
  for (let x = 0, wide; x < width; x += wide) {
    wide = Math.min((4 + random() * 7) * unit, width - x);
    const top = bottom * (0.7 - 0.62 * random() ** 1.8);
    const lit = 0.12 + random() * 0.4;
    ctx.fillStyle = color;
    ctx.fillRect(x, top, wide + 1, bottom);
    if (random() < 0.3) ctx.fillRect(x + wide / 2, top - unit * 3, unit * 0.3, unit * 3);
    for (let y = top + unit; y < bottom; y += unit * 1.5) {
      for (let pane = x + unit * 0.6; pane < x + wide - unit; pane += unit * 1.15) {
        ctx.fillStyle = `hsl(${random() < 0.82 ? 40 : 195} 90% 72% / ${0.25 + random() * 0.6})`;
        if (random() < lit) ctx.fillRect(pane, y, unit * 0.5, unit * 0.7);
      }
    }
    // Now and then, a neon sign.
    ctx.fillStyle = `hsl(${random() * 360} 85% 65%)`;
    if (random() < 0.14) ctx.fillRect(x + wide * 0.2, top + unit * 2, unit * 0.6, unit * 8);
  }
  return ctx.canvas;
}

function stars(ctx, width, horizon, time) {
  const random = dice(9);
  ctx.fillStyle = '#fff';
  for (let star = 0; star < 90; star += 1) {
    const y = random() ** 1.5;
    const size = random() > 0.85 ? 2.2 : 1.2;
    ctx.globalAlpha = (1 - y) * (0.35 + 0.35 * Math.sin(time * (0.4 + (star % 7) / 4) + star));
    ctx.fillRect(random() * width, y * horizon * 0.75, size, size);
  }
  ctx.globalAlpha = 1;
}

/** Curtains of light, drawn small: scaling up makes them soft. */
function curtains(ctx, time) {
  const { width, height } = ctx.canvas;
  ctx.clearRect(0, 0, width, height);
  for (let x = 0; x < width; x += 1) {
    const wave = Math.sin(x * 0.11 + time * 0.13) + Math.sin(x * 0.043 - time * 0.09 + 2);
    const ray = 0.7 + 0.3 * Math.sin(x * 0.8 + Math.sin(x * 0.23 + time * 0.4) * 2);
    const power = Math.max(0, 0.3 + 0.18 * wave) * ray;
    const foot = height * (0.7 + 0.1 * Math.sin(x * 0.08 + time * 0.1));
    const head = foot - height * (0.62 + 0.12 * wave);
    const light = (turn, alpha) => `hsl(${150 + 12 * wave + x * 0.4 + turn} 80% 55% / ${alpha})`;
    gradient(ctx, head, foot, [0, light(110, 0)], [0.5, light(60, power / 2)], [0.86, light(0, power)], [1, light(0, 0)]);
    ctx.fillRect(x, head, 1, foot - head);
  }
}

/** A Ferris wheel in changing colours. */
function wheel(ctx, x, horizon, radius, time) {
  const y = horizon - radius * 1.16;
  const rim = (car) => [x + radius * Math.cos(time * 0.06 + car * 0.3927), y + radius * Math.sin(time * 0.06 + car * 0.3927)];
  const cars = [...Array(16).keys()];
  const lines = [[x - radius / 2, horizon], [x + radius / 2, horizon], ...cars.map(rim)];
  ctx.lineWidth = Math.max(1, radius * 0.016);
  ctx.strokeStyle = '#8fa3ff55';
  ctx.beginPath();
  for (const end of lines) {
    ctx.moveTo(x, y);
    ctx.lineTo(...end);
  }
  ctx.stroke();
  ctx.strokeStyle = `hsl(${300 + 40 * Math.sin(time * 0.3)} 80% 68% / .8)`;
  for (const share of [1, 0.7]) {
    ctx.beginPath();
    ctx.arc(x, y, radius * share, 0, 7);
    ctx.stroke();
  }
  for (const car of cars) disc(ctx, ...rim(car), radius * 0.04, `hsl(${car * 22 + time * 20} 85% 74%)`);
}

/** A train on the quay, every 40 seconds. */
function train(ctx, width, horizon, time) {
  const unit = width / 160;
  const front = ((time + 34) % 40) * width * 0.13 - unit * 40;
  ctx.fillStyle = '#05070f';
  ctx.fillRect(0, horizon - unit * 0.5, width, unit * 0.5);
  for (let pane = 0; pane < 35; pane += 1) {
    ctx.fillStyle = '#0a0e20';
    ctx.fillRect(front - pane * unit * 1.35, horizon - unit * 2.2, unit * 1.4, unit * 1.9);
    ctx.fillStyle = '#ffdc9b';
    if (pane % 7) ctx.fillRect(front - pane * unit * 1.35, horizon - unit * 1.8, unit, unit * 0.8);
  }
}

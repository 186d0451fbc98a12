// A comment's picture: its text is measured once and painted once, so that a frame only copies pixels.

/** No bitmap is wider, device pixels. Longer text is painted smaller. */
const BITMAP_WIDTH_MAX = 8192;
/** What a comment may have at most, in code points. */
const TEXT_MAX = 300;
/** Lines of a comment that stands still. */
const LINES_MAX = 4;
const LINE_HEIGHT = 1.22;

/**
 * @typedef {object} Layout
 * @property {string[]} lines
 * @property {string} font
 * @property {number} size font size, CSS pixels
 * @property {number} width
 * @property {number} height
 */

/** @type {OffscreenCanvasRenderingContext2D} */
let context;

/** The room around the text that its outline takes. @param {number} size */
const margin = (size) => Math.ceil(size * 0.12);

/** @param {number} size @param {number} [lines] */
export const heightOf = (size, lines = 1) => Math.ceil(size * LINE_HEIGHT * lines) + 2 * margin(size);

/**
 * Measures text, and breaks it into lines when it must fit into `room`.
 * @param {string} text
 * @param {number} size font size, CSS pixels
 * @param {string} family
 * @param {number} scale device pixels per CSS pixel
 * @param {number} room the greatest width, CSS pixels
 * @param {boolean} own
 * @returns {Layout}
 */
export function layOut(text, size, family, scale, room, own) {
  context ??= /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(1, 1).getContext('2d'));
  const shown = [...text.replace(/[\s\p{Cc}]+/gu, ' ')].slice(0, TEXT_MAX).join('');
  /** @param {string} line */
  const measure = (line) => context.measureText(line).width;
  context.font = `600 ${size}px ${family}`;
  let lines = [shown];
  let width = measure(shown);
  if (width > room) {
    const letters = [...new Intl.Segmenter().segment(shown)].map(({ segment }) => segment);
    const perLine = Math.ceil(letters.length / Math.min(LINES_MAX, Math.ceil((width / room) * 1.05)));
    lines = [];
    while (letters.length) lines.push(letters.splice(0, perLine).join('').trim());
    width = Math.max(...lines.map(measure));
  }
  const side = margin(size) + (own ? Math.ceil(size * 0.3) : 0);
  const fit = Math.min(1, (Math.min(room, BITMAP_WIDTH_MAX / scale) - 2 * side) / width);
  // No stage is so narrow that nothing is left to paint.
  const factor = Math.max(fit, 1 / size);
  return {
    lines,
    font: `600 ${size * factor}px ${family}`,
    size: size * factor,
    width: Math.ceil(width * factor) + 2 * side,
    height: heightOf(size * factor, lines.length),
  };
}

/**
 * Paints a comment.
 * @param {Layout} layout
 * @param {number} color `0xRRGGBB`
 * @param {boolean} own it gets a frame
 * @param {number} scale device pixels per CSS pixel
 * @returns {ImageBitmap}
 */
export function paint({ lines, font, size, width, height }, color, own, scale) {
  const { canvas } = context;
  canvas.width = Math.min(BITMAP_WIDTH_MAX, Math.ceil(width * scale));
  canvas.height = Math.ceil(height * scale);
  context.scale(scale, scale);
  if (own) {
    context.beginPath();
    context.roundRect(1, 1, width - 2, height - 2, size * 0.25);
    context.fillStyle = 'rgba(0,0,0,.45)';
    context.fill();
    context.strokeStyle = '#4cc2ff';
    context.lineWidth = 2;
    context.stroke();
  }
  const [red, green, blue] = [color >> 16, color >> 8, color].map((channel) => channel & 255);
  const isDark = red * 0.3 + green * 0.59 + blue * 0.11 < 60;
  context.font = font;
  context.textAlign = 'center';
  context.lineJoin = 'round';
  context.lineWidth = size * 0.14;
  context.strokeStyle = isDark ? 'rgba(255,255,255,.85)' : 'rgba(0,0,0,.8)';
  context.fillStyle = `rgb(${red},${green},${blue})`;
  lines.forEach((line, index) => {
    context.direction = /^\P{L}*[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/u.test(line) ? 'rtl' : 'ltr';
    const baseline = margin(size) + size * (index * LINE_HEIGHT + 0.95);
    context.strokeText(line, width / 2, baseline);
    context.fillText(line, width / 2, baseline);
  });
  return canvas.transferToImageBitmap();
}

// Shows a room's comments with npm `danmaku` 2.x (`new Danmaku({ container })`), in its live mode or over a media element.

/**
 * @typedef {object} Running what `danmaku` makes of a comment
 * @property {object} style the one it was given
 * @property {number} _utc
 * @property {number} [time]
 *
 * @typedef {object} Danmaku the parts of a `Danmaku` that are used here
 * @property {'dom' | 'canvas'} engine
 * @property {HTMLMediaElement} [media]
 * @property {Running[]} comments
 * @property {{position: number, runningList: Running[], visible: boolean}} _
 * @property {(comment: object) => unknown} emit
 * @property {() => unknown} clear
 */

/** How many comments `danmaku` may keep that it has already shown. */
const DONE_MAX = 200;

/**
 * @param {Pick<import('../sdk/index.d.ts').DanmakuRoom, 'on'>} room
 * @param {any} player a `Danmaku`
 * @returns {() => void} detach
 */
export function attach(room, player) {
  /** @type {Danmaku} */
  const danmaku = player;
  /** @type {WeakMap<object, number>} */
  const ids = new WeakMap();

  const offs = [
    room.on('comment', ({ id, text, mode, color, size }) => {
      // It draws nothing in these states, and everything at once afterwards.
      if (document.hidden || danmaku.media?.paused || !danmaku._.visible) return;
      // What is drawn keeps a reference of its own; the array would grow for ever.
      if (danmaku._.position > DONE_MAX) {
        danmaku.comments.splice(0, danmaku._.position);
        danmaku._.position = 0;
      }
      const style = danmaku.engine === 'canvas' ? canvasStyle(color, size) : domStyle(color, size);
      ids.set(style, id);
      danmaku.emit({ text, mode: mode === 'scroll' ? 'rtl' : mode, style });
    }),
    room.on('retract', (retracted) => {
      for (const comment of [...danmaku._.runningList, ...danmaku.comments]) {
        const id = ids.get(comment.style);
        // It has no way to remove one comment, but one that is over goes with the next frame.
        if (id !== undefined && retracted.ids.includes(id)) comment[danmaku.media ? 'time' : '_utc'] = -Infinity;
      }
    }),
    room.on('clear', () => {
      danmaku.clear();
      danmaku.comments.length = 0;
      danmaku._.position = 0;
    }),
  ];
  return () => offs.forEach((off) => off());
}

/** @param {number} color */
const css = (color) => `#${color.toString(16).padStart(6, '0')}`;

/** @param {number} color @param {number} size */
const domStyle = (color, size) => ({
  color: css(color),
  font: `600 ${size}px/1.25 sans-serif`,
  textShadow: '0 0 2px #000, 0 0 2px #000, 1px 1px 2px #000',
  whiteSpace: 'pre',
});

/** @param {number} color @param {number} size */
const canvasStyle = (color, size) => ({
  font: `600 ${size}px sans-serif`,
  fillStyle: css(color),
  strokeStyle: '#000',
  lineWidth: 3,
  lineJoin: 'round',
});

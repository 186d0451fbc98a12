// Shows a room's comments with `artplayer-plugin-danmuku` 5.x.

/**
 * @typedef {import('../sdk/index.d.ts').Comment} Comment
 *
 * @typedef {object} Item what the plugin makes of a comment
 * @property {string} [id]
 * @property {number} $restTime seconds it stays
 *
 * @typedef {object} Plugin the parts of the plugin that are used here
 * @property {{beforeVisible: (item: Item) => boolean | Promise<boolean>}} option
 * @property {boolean} isHide
 * @property {boolean} isStop
 * @property {(comment: object) => Promise<unknown>} emit
 * @property {() => Promise<unknown>} load
 */

/** How many comments may wait for a place. Each costs the plugin a message to its worker in every frame. */
const WAITING_MAX = 50;
const WAITING_MS_MAX = 5000;
/** The plugin keeps every comment; after so many it starts over, at the latest after twice as many. */
const KEPT_MAX = 2000;
const RETRY_MS = 500;

const MODES = { scroll: 0, top: 1, bottom: 2 };

/**
 * @param {Pick<import('../sdk/index.d.ts').DanmakuRoom, 'on'>} room
 * @param {any} art an `Artplayer` whose plugins include `artplayerPluginDanmuku({ danmuku: [] })`
 * @returns {() => void} detach
 */
export function attach(room, art) {
  /** @type {Plugin} */
  const plugin = art.plugins.artplayerPluginDanmuku;
  /** Emitted and not on screen yet. @type {Map<string, {comment: Comment, since: number, isSeen: boolean}>} */
  const waiting = new Map();
  /** @type {Map<string, Item>} */
  const visible = new Map();
  let kept = 0;

  /** @param {Comment} comment */
  const emit = ({ id, text, mode, color, size }) => {
    kept++;
    // The plugin shows a comment only while its time is within 0.1 s of the video's; without a time, half a second late.
    const time = art.currentTime + 0.1;
    const style = { fontSize: `${size}px` };
    const css = `#${color.toString(16).padStart(6, '0')}`;
    plugin.emit({ id: `room-${id}`, text, mode: MODES[mode], color: css, time, style });
  };

  // Not with config(): it ignores a change of functions.
  const { beforeVisible } = plugin.option;
  plugin.option.beforeVisible = (item) => {
    if (!item.id?.startsWith('room-')) return beforeVisible.call(plugin.option, item);
    const entry = waiting.get(item.id);
    if (entry) entry.isSeen = true;
    // After a seek, the plugin would show old ones again.
    return entry !== undefined;
  };
  /** @param {Item} item */
  const onVisible = (item) => {
    if (item.id && waiting.delete(item.id)) visible.set(item.id, item);
  };
  art.on('artplayerPluginDanmuku:visible', onVisible);

  const startOver = () => {
    kept = 0;
    for (const entry of waiting.values()) entry.isSeen = false;
    visible.clear();
    plugin.load();
  };
  const retry = setInterval(() => {
    for (const [id, entry] of waiting) {
      if (performance.now() - entry.since > WAITING_MS_MAX) waiting.delete(id);
      // A slow frame missed the 0.2 s in which the plugin would have taken it.
      else if (!entry.isSeen && !plugin.isStop) emit(entry.comment);
    }
    for (const [id, item] of visible) if (item.$restTime <= 0) visible.delete(id);
    if (kept > KEPT_MAX * (visible.size ? 2 : 1)) startOver();
  }, RETRY_MS);

  const offs = [
    room.on('comment', (comment) => {
      if (document.hidden || plugin.isStop || plugin.isHide || waiting.size >= WAITING_MAX) return;
      waiting.set(`room-${comment.id}`, { comment, since: performance.now(), isSeen: false });
      emit(comment);
    }),
    room.on('retract', ({ ids }) => {
      for (const id of ids.map((number) => `room-${number}`)) {
        waiting.delete(id);
        const item = visible.get(id);
        // The plugin removes it in its next frame.
        if (item) item.$restTime = 0;
      }
    }),
    room.on('clear', () => {
      waiting.clear();
      startOver();
    }),
  ];
  return () => {
    offs.forEach((off) => off());
    clearInterval(retry);
    art.off('artplayerPluginDanmuku:visible', onVisible);
    plugin.option.beforeVisible = beforeVisible;
  };
}

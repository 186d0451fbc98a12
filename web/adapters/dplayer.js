// Shows a room's comments with `dplayer` 1.27.

const TYPES = { scroll: 0, top: 1, bottom: 2 };

/**
 * @param {Pick<import('../sdk/index.d.ts').DanmakuRoom, 'on'>} room
 * @param {any} player a `DPlayer` with `danmaku` and `apiBackend` among its options
 * @param {{own?: boolean}} [options] `own: false` if the `send` of `apiBackend` posts to the room: DPlayer draws what is
 *   typed into its own box by itself
 * @returns {() => void} detach
 */
export function attach(room, player, { own = true } = {}) {
  /** @type {HTMLElement} */
  const container = player.template.danmaku;

  const offs = [
    room.on('comment', ({ id, text, mode, color, size, own: isOwn }) => {
      // Its animations stand still in these states, and what is drawn meanwhile piles up.
      if (document.hidden || player.video.paused || (isOwn && !own)) return;
      const before = container.lastElementChild;
      // It writes innerHTML, turns colour 0 into white, and takes types only as numbers.
      player.danmaku.draw({ text: escaped(text), color: color || 1, type: TYPES[mode] });
      const element = /** @type {HTMLElement} */ (container.lastElementChild);
      if (element === before) return;
      element.dataset.roomId = String(id);
      // Its lanes are as high as its own font; only smaller text fits.
      if (size < 25) element.style.fontSize = `${size}px`;
    }),
    room.on('retract', ({ ids }) => {
      for (const id of ids) {
        // Its lane is only free again when its animation ends, so it has to stay.
        container.querySelector(`[data-room-id="${id}"]`)?.replaceChildren();
      }
    }),
    room.on('clear', () => player.danmaku.clear()),
  ];
  return () => offs.forEach((off) => off());
}

/** @param {string} text */
const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

// Shows a room's comments with `danmu.js` 1.x.

/** How long a comment takes to cross the screen, and a fixed one stays. */
const DURATION_MS = { scroll: 8000, top: 4000, bottom: 4000 };

/**
 * @param {Pick<import('../sdk/index.d.ts').DanmakuRoom, 'on'>} room
 * @param {any} danmu a `DanmuJs`
 * @returns {() => void} detach
 */
export function attach(room, danmu) {
  const offs = [
    room.on('comment', ({ id, text, mode, color, size }) => {
      // It takes comments even then, and they pile up without moving.
      if (document.hidden || danmu.status !== 'playing') return;
      const style = {
        color: `#${color.toString(16).padStart(6, '0')}`,
        fontSize: `${size}px`,
        textShadow: '0 0 2px #000, 0 0 2px #000, 1px 1px 2px #000',
      };
      // Without realTime it shows four comments a second.
      const comment = { id: `room-${id}`, txt: text, mode, duration: DURATION_MS[mode], realTime: true, style };
      danmu.sendComment(comment);
      // With a player and without live, it keeps them and shows them again.
      danmu.main.data = danmu.main.data.filter((/** @type {object} */ kept) => kept !== comment);
    }),
    room.on('retract', ({ ids }) => {
      for (const id of ids) {
        const bullet = danmu.main.queue.find((/** @type {{id: string}} */ shown) => shown.id === `room-${id}`);
        // Its elements stay on the page, invisible, for the next comment.
        bullet?.el?.replaceChildren();
        // Not removeComment(): that forgets the next comment, too, because the array changes under its loop.
        bullet?.remove();
      }
    }),
    room.on('clear', () => danmu.clear()),
  ];
  return () => offs.forEach((off) => off());
}

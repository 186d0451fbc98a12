// The page at `/overlay/{room}`: only the comments, for studio software. Its options are in the query.

import { DanmakuStage } from '../renderer/index.js';
import { DanmakuRoom } from '../sdk/index.js';
import { overlayOptions } from './overlay-options.js';

const base = new URL('..', location);
const name = decodeURIComponent(location.pathname.split('/').at(-1));
const { options, warnings } = overlayOptions(new URLSearchParams(location.search));
const { modes, history, encoding, transports, ...stageOptions } = options;
for (const warning of warnings) console.warn(warning);

// A studio records what moves, whatever the machine's owner set for other pages.
const stage = new DanmakuStage(document.getElementById('stage'), { ...stageOptions, fontFamily: getComputedStyle(document.body).fontFamily, reducedMotion: false });
const room = new DanmakuRoom(base, name, { autoConnect: false, history, encoding, transports });

room.on('comment', (comment) => {
  if (modes.includes(comment.mode)) stage.show(comment);
});
room.on('retract', ({ ids }) => stage.retract(ids));
room.on('clear', () => stage.clear());
room.on('error', ({ code, message }) => console.warn(`${code}: ${message}`));
room.connect();

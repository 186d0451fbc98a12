// The panel that lists the rooms and takes one's name.

import { dialog, make, show } from './panel.js';
import { addStrings, count, say } from './strings.js';

const SHOWN_MAX = 50;
const REFRESH_MS = 3000;

addStrings({
  room_name: ['Room name', '房间名'],
  bad_name: ['Letters A to Z, digits, and _ . : - only', '只能使用英文字母、数字和 _ . : -'],
  enter: ['Enter', '进入'],
});

const field = make('input', { required: true, maxLength: 64, pattern: '(?!\\.{1,2}$)[A-Za-z0-9_.:\\-]+', autocapitalize: 'off', autocomplete: 'off', spellcheck: false });
const panel = dialog('rooms', 'rooms', field, make('button', { className: 'primary' }, 'enter'));
const list = make('ul');
field.dataset.label = 'room_name';
field.oninput = () => field.setCustomValidity(field.validity.patternMismatch ? say('bad_name') : '');
panel.append(list);

export async function open({ base, name }) {
  const refresh = async () => {
    const { rooms } = await (await fetch(new URL('v1/rooms', base))).json();
    rooms.sort((a, b) => b.viewers - a.viewers || b.seq - a.seq);
    list.replaceChildren(...rooms.slice(0, SHOWN_MAX).map((room) => entry(room, name)));
  };
  // The page says it when the server is away.
  const timer = setInterval(() => refresh().catch(() => {}), REFRESH_MS);
  panel.onclose = () => clearInterval(timer);
  panel.querySelector('form').onsubmit = () => location.assign(address(field.value));
  field.placeholder = say('room_name');
  await refresh().catch(() => {});
  await show(panel);
}

function entry({ room, viewers }, current) {
  const item = make('li');
  const link = make('a', { href: address(room), ariaCurrent: room === current ? 'page' : null });
  link.append(make('span', { textContent: room }), make('small', { textContent: say('watching', { n: count(viewers) }) }));
  item.append(link);
  return item;
}

function address(room) {
  return `?${new URLSearchParams({ room })}`;
}

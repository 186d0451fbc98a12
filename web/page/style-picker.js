// The panel for a comment's colour and position, and the viewer's name.

import { dialog, labelled, make, show } from './panel.js';
import { addStrings } from './strings.js';

const COLORS = { white: 0xffffff, red: 0xff6b6b, orange: 0xffa94d, yellow: 0xffd93d, green: 0x6bcb77, teal: 0x4dd0e1, blue: 0x6ea8fe, purple: 0xc77dff };
const MODES = { scroll: 'scroll', top: 'top', bottom: 'bottom' };
const NAME_MAX = 32;

addStrings({
  name: ['Your name', '昵称'],
  color: ['Colour', '颜色'],
  mode: ['Position', '位置'],
  scroll: ['Scroll', '滚动'],
  top: ['Top', '顶部'],
  bottom: ['Bottom', '底部'],
  white: ['white', '白'],
  red: ['red', '红'],
  orange: ['orange', '橙'],
  yellow: ['yellow', '黄'],
  green: ['green', '绿'],
  teal: ['teal', '青'],
  blue: ['blue', '蓝'],
  purple: ['purple', '紫'],
});

let panel;

export function open({ settings }) {
  panel ??= build(settings);
  return show(panel);
}

function build(settings) {
  const name = make('input', { value: settings.get('name'), autocomplete: 'nickname' });
  name.oninput = () => settings.set('name', [...name.value.trim()].slice(0, NAME_MAX).join(''));
  return dialog(
    'styles',
    'style',
    labelled('name', name),
    choices('color', COLORS, settings),
    choices('mode', MODES, settings),
    make('button', { className: 'primary done' }, 'close'),
  );
}

function choices(key, values, settings) {
  const group = make('fieldset', { className: 'choices' });
  const row = make('div');
  group.append(make('legend', {}, key), row);
  for (const [text, value] of Object.entries(values)) {
    const radio = make('input', { type: 'radio', name: key, checked: value === settings.get(key) });
    const label = make('label', { className: key });
    radio.onchange = () => settings.set(key, value);
    radio.dataset.label = text;
    label.append(radio);
    if (key === 'color') radio.style.background = `#${value.toString(16).padStart(6, '0')}`;
    else label.append(make('span', {}, text));
    row.append(label);
  }
  return group;
}

// The panel that shows and changes the settings.

import { dialog, labelled, make, show } from './panel.js';
import { addStrings } from './strings.js';

addStrings({
  settings_title: ['Settings', '设置'],
  display: ['Comments over the video', '弹幕显示'],
  area: ['Area', '显示区域'],
  density: ['Density', '密度'],
  fontScale: ['Font size', '字号'],
  opacity: ['Opacity', '不透明度'],
  speed: ['Speed', '速度'],
  blocking: ['Blocked', '屏蔽'],
  blockedWords: ['Words, separated by commas', '屏蔽词,用逗号分隔'],
  blockedUsers: ['Users, separated by commas', '屏蔽用户,用逗号分隔'],
  page: ['Page', '页面'],
  language: ['Language', '语言'],
  appearance: ['Appearance', '外观'],
  dark: ['Dark', '深色'],
  light: ['Light', '浅色'],
  media: ['Video URL', '视频地址'],
  connection: ['Connection', '连接'],
  encoding: ['Encoding', '编码'],
  transport: ['Transport', '传输'],
  shortcuts: ['Keyboard shortcuts', '键盘快捷键'],
  keys: [
    'C write · K pause · D comments · L like · E under the hood · S settings · F full screen',
    'C 输入 · K 暂停 · D 弹幕 · L 点赞 · E 技术面板 · S 设置 · F 全屏',
  ],
  replay_keys: ['K pause · D comments · S settings · F full screen · ← → seek', 'K 暂停 · D 弹幕 · S 设置 · F 全屏 · ← → 快进快退'],
});

const SECTIONS = {
  display: [range('area', 0.25, 1, 0.25), range('density', 0.2, 2, 0.2), range('fontScale', 0.5, 2, 0.1), range('opacity', 0.2, 1, 0.1), range('speed', 0.5, 2, 0.1)],
  blocking: [text('blockedWords'), text('blockedUsers')],
  page: [select('language', ['auto', 'en', 'zh']), select('theme', ['auto', 'dark', 'light'], 'appearance'), text('media', 'url')],
  connection: [select('encoding', ['auto', 'identity', 'gzip', 'deflate']), select('transport', ['auto', 'websocket', 'sse', 'pull'])],
  shortcuts: [toggle('shortcuts', document.body.classList.contains('replaying') ? 'replay_keys' : 'keys')],
};
/** Options that are called the same in every language. */
const NAMES = { en: 'English', zh: '中文', websocket: 'WebSocket', sse: 'Server-Sent Events', pull: 'HTTP', identity: 'identity', gzip: 'gzip', deflate: 'deflate' };

let panel;

export function open({ settings }) {
  panel ??= build(settings);
  return show(panel);
}

function build(settings) {
  const sections = Object.entries(SECTIONS).map(([title, fields]) => {
    const section = make('fieldset');
    section.append(make('legend', {}, title), ...fields.map((field) => field(settings)));
    return section;
  });
  const element = dialog('settings', 'settings_title', ...sections, make('button', { className: 'primary done' }, 'close'));
  element.className = 'wide';
  return element;
}

function range(key, min, max, step) {
  return (settings) => {
    const output = make('output');
    const input = make('input', { type: 'range', min, max, step, value: settings.get(key) });
    const say = () => (output.textContent = `${Math.round(input.value * 100)}%`);
    input.oninput = () => {
      settings.set(key, Number(input.value));
      say();
    };
    say();
    return labelled(key, input, output);
  };
}

function text(key, type = 'text') {
  return (settings) => {
    const input = make('input', { type, value: settings.get(key), spellcheck: false });
    input.onchange = () => settings.set(key, input.value.trim());
    return labelled(key, input);
  };
}

function select(key, values, caption = key) {
  return (settings) => {
    const input = make('select');
    for (const value of values) {
      const selected = value === settings.get(key);
      input.append(NAMES[value] ? make('option', { value, selected, textContent: NAMES[value] }) : make('option', { value, selected }, value));
    }
    input.onchange = () => settings.set(key, input.value);
    return labelled(caption, input);
  };
}

function toggle(key, caption) {
  return (settings) => {
    const input = make('input', { type: 'checkbox', checked: settings.get(key) });
    input.onchange = () => settings.set(key, input.checked);
    return labelled(caption, input);
  };
}

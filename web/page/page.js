// The page at `/`: connects the room to what shows it.

import { DanmakuStage } from '../renderer/index.js';
import { DanmakuRoom } from '../sdk/index.js';
import { ChatList } from './chat-list.js';
import { Composer } from './composer.js';
import { hideProblem, setUpPlayer, showProblem } from './player.js';
import { Scene } from './scene.js';
import { Settings } from './settings.js';
import { chooseLanguage, count, say } from './strings.js';

const PANELS = ['settings-panel', 'room-picker', 'style-picker', 'figures'];
const PRELOAD_MS = 3000;
const PROBLEM_MS = 6000;
const $ = (id) => document.getElementById(id);
const base = new URL('.', location);
const query = new URLSearchParams(location.search);
const name = query.get('room') || 'demo';
const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
const settings = new Settings();
const transport = settings.get('transport');
const room = new DanmakuRoom(base.href, name, {
  autoConnect: false,
  encoding: settings.get('encoding'),
  user: settings.get('user'),
  ...(transport !== 'auto' && { transports: [transport] }),
});
const stage = new DanmakuStage($('stage'), { ...settings.stageOptions(), fontFamily: getComputedStyle(document.body).fontFamily });
const scene = new Scene($('scene'), still);
const chat = new ChatList($('chat'));
const composer = new Composer(room, settings);
const context = { base, name, settings, room, scene, stage, chat };
let countdown = 0;
let hearts;
let preloading;

/** Opens a panel, which is loaded the first time somebody does. */
async function open(panel) {
  try {
    await (await import(`./${panel}.js`)).open(context);
  } catch {
    showProblem('panel_failed');
    setTimeout(() => hideProblem('panel_failed'), PROBLEM_MS);
  }
}

/** Loads the panels while the server is there, so that they open when it is not. */
function preload() {
  for (const panel of PANELS) import(`./${panel}.js`).catch(() => {});
  import('./panel.js').then(({ styled }) => styled()).catch(() => {});
}

/** The hearts, which are loaded with the first like. */
function likes() {
  hearts ??= import('./likes.js').then(
    ({ Likes }) => new Likes($('hearts'), still),
    () => (hearts = undefined),
  );
  return hearts;
}

/** Shows the connection's state; while there is none, over the player too. */
function showState({ state, retryInMs = 0, error }) {
  clearInterval(countdown);
  const until = Date.now() + retryInMs;
  const reason = state === 'closed' && error && (say(error.code) ?? error.message);
  const text = reason ? `${say(state)}: ${reason}` : say(state);
  const show = () => {
    const n = Math.ceil((until - Date.now()) / 1000);
    $('notice').firstChild.textContent = n > 0 ? say('retry_in', { n }) : text;
  };
  show();
  if (retryInMs) countdown = setInterval(show, 250);
  $('again').hidden = error?.code === 'bad_room_id' || (state !== 'closed' && !retryInMs);
  document.querySelector('.badges').hidden = state === 'closed';
  composer.connection(state);
  $('notice').hidden = state === 'joined' || (state === 'connecting' && !retryInMs);
  $('state').className = state;
  $('state').textContent = text;
  if (state === 'joined') preloading ??= setTimeout(preload, PRELOAD_MS);
  showEmpty();
}

function isDark() {
  const theme = settings.get('theme');
  return theme === 'auto' ? matchMedia('(prefers-color-scheme: dark)').matches : theme === 'dark';
}

function showEmpty() {
  $('empty').hidden = !chat.isEmpty || room.state !== 'joined';
}

function showCounts() {
  $('viewers').textContent = say('watching', { n: count(room.viewers) });
  $('like').lastChild.textContent = room.likes ? count(room.likes) : '';
  $('like').title = say('likes', { n: count(room.likes) });
}

function showChoices(key) {
  if (key === 'encoding' || key === 'transport') location.reload();
  if (key === 'language') {
    chooseLanguage(settings.get(key));
    showState({ state: room.state });
    showCounts();
  }
  if (key === 'figures' && (settings.get(key) || $('figures'))) open('figures');
  document.documentElement.dataset.theme = settings.get('theme');
  stage.set(settings.stageOptions());
  composer.refresh();
}

room.on('comment', (comment) => {
  if (settings.get('show') && !comment.replay) stage.show(comment);
});
room.on('comments', (comments) => {
  chat.add(comments.filter((comment) => !stage.blocks(comment)));
  showEmpty();
});
room.on('retract', ({ ids }) => {
  chat.retract(ids);
  stage.retract(ids);
  showEmpty();
});
room.on('clear', () => {
  chat.clear();
  stage.clear();
  showEmpty();
});
room.on('gap', () => chat.addGap());
room.on('viewers', showCounts);
room.on('likes', async (arrived) => {
  showCounts();
  (await likes())?.show(arrived.count);
});
room.on('state', showState);

$('room').firstChild.textContent = document.title = name;
$('room').onclick = () => open('room-picker');
$('brush').onclick = () => open('style-picker');
$('again').onclick = () => room.connect();
for (const type of ['online', 'visibilitychange']) {
  addEventListener(type, () => document.hidden || room.state === 'closed' || room.connect());
}
$('first').onclick = () => composer.focus();
$('like').onclick = async () => {
  room.like();
  (await likes())?.press();
};
$('language').onclick = () => settings.set('language', document.documentElement.lang === 'zh' ? 'en' : 'zh');
$('theme').onclick = () => settings.set('theme', isDark() ? 'light' : 'dark');
$('empty').querySelector('code').textContent = `curl -d '{"text":"hello"}' ${new URL(`v1/rooms/${name}/comments`, base)}`;
setUpPlayer({ ...context, composer, openSettings: () => open('settings-panel') });
settings.onChange(showChoices);
showChoices('language');
if (settings.get('figures')) open('figures');
if (query.has('replay')) open('replay');
else room.connect();

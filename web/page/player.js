// The player's controls, its video, and the keyboard shortcuts.

import { say, translate } from './strings.js';

const $ = (id) => document.getElementById(id);

/** Shows a problem over the player, until it is hidden. */
export function showProblem(key) {
  $('problem').dataset.text = key;
  $('problem').textContent = say(key);
  $('problem').hidden = false;
}

/** Hides the problem, if it is this one. */
export function hideProblem(key) {
  if ($('problem').dataset.text === key) $('problem').hidden = true;
}

export function setUpPlayer({ settings, stage, scene, composer, room, openSettings }) {
  const video = $('video');
  let paused = false;

  const pause = (now) => {
    paused = now;
    stage[paused ? 'pause' : 'play']();
    scene.running = !paused && video.hidden;
    if (!video.hidden) Promise.resolve(video[paused ? 'pause' : 'play']()).catch(() => {});
    $('pause').dataset.label = paused ? 'play' : 'pause';
    $('pause').querySelector('use').setAttribute('href', paused ? '#i-play' : '#i-pause');
    $('player').classList.toggle('paused', paused);
    translate($('player'));
  };

  const showVideo = () => {
    const url = settings.get('media');
    hideProblem('media_failed');
    hideProblem('media_invalid');
    video.hidden = !isPlayable(url);
    if (url && video.hidden) showProblem('media_invalid');
    if (video.hidden) video.removeAttribute('src');
    else video.src = url;
    // A live stream that knows its wall-clock time sets the pace of the comments.
    room.syncTo(!video.hidden && video.getStartDate ? video : null);
    stage.follow(video.hidden ? null : video);
    pause(false);
  };
  video.onerror = () => {
    video.hidden = true;
    stage.follow(null);
    showProblem('media_failed');
    pause(paused);
  };

  const actions = {
    c: () => composer.focus(),
    k: () => pause(!paused),
    d: () => settings.set('show', !settings.get('show')),
    l: () => $('like').click(),
    e: () => settings.set('figures', !settings.get('figures')),
    s: openSettings,
    f: () => (document.fullscreenElement ? document.exitFullscreen() : $('watch').requestFullscreen().catch(() => {})),
  };
  for (const [id, key] of Object.entries({ pause: 'k', show: 'd', engineer: 'e', tune: 's', full: 'f' })) $(id).onclick = actions[key];
  document.onkeydown = (event) => {
    const { code, target, ctrlKey, metaKey, altKey } = event;
    const action = actions[code.replace('Key', '').toLowerCase()];
    if (!action || ctrlKey || metaKey || altKey || target.closest('input, select, dialog') || !settings.get('shortcuts')) return;
    event.preventDefault();
    action();
  };

  const refresh = (key) => {
    $('show').ariaPressed = settings.get('show');
    $('engineer').ariaExpanded = settings.get('figures');
    if (!settings.get('show')) stage.clear();
    if (key === 'media') showVideo();
  };
  settings.onChange(refresh);
  refresh('media');
}

function isPlayable(url) {
  return /^(https?|blob):/.test(url) && URL.canParse(url);
}

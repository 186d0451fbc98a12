// The viewer's choices, kept in this browser.

const DEFAULTS = {
  show: true,
  area: 0.75,
  density: 1,
  fontScale: matchMedia('(max-width: 40rem)').matches ? 0.7 : 1,
  opacity: 1,
  speed: 1,
  blockedWords: '',
  blockedUsers: '',
  encoding: 'auto',
  transport: 'auto',
  language: 'auto',
  theme: 'auto',
  shortcuts: true,
  figures: false,
  media: '',
  user: `web-${Math.random().toString(36).slice(2, 8)}`,
  name: '',
  color: 0xffffff,
  mode: 'scroll',
};
const KEY = 'danmaku';

/** Remembers nothing beyond the page if the browser denies it storage. */
export class Settings {
  #values = { ...DEFAULTS };
  #listeners = [];

  constructor() {
    try {
      const stored = JSON.parse(localStorage.getItem(KEY));
      for (const key in DEFAULTS) {
        if (typeof stored?.[key] === typeof DEFAULTS[key]) this.#values[key] = stored[key];
      }
    } catch {}
    this.set('user', this.get('user'));
  }

  get(key) {
    return this.#values[key];
  }

  set(key, value) {
    this.#values[key] = value;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#values));
    } catch {}
    for (const listener of this.#listeners) listener(key, value);
  }

  /** Calls `listener(key, value)` after each change. */
  onChange(listener) {
    this.#listeners.push(listener);
  }

  /** The renderer's options. */
  stageOptions() {
    const { area, density, fontScale, opacity, speed, blockedWords, blockedUsers } = this.#values;
    return { area, density, fontScale, opacity, speed, blockedWords: list(blockedWords), blockedUsers: list(blockedUsers) };
  }
}

/** What a person separated by commas. */
function list(text) {
  return text.split(/[,,]/).map((part) => part.trim()).filter(Boolean);
}

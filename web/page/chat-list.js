// The list of comments beside the player.

import { count, say } from './strings.js';

const ITEMS_MAX = 200;
/** The list scrolls because of the viewer if it was touched within this time. */
const SCROLL_MS = 500;
/** A batch flows in over about a second: at each tick, this share of what waits. */
const TICK_MS = 100;
const SHARE = 1 / 8;
/** Screen readers hear of new comments at most this often. */
const SPOKEN_MS = 8000;

export class ChatList {
  #view;
  #list;
  #newer;
  #spoken;
  #waiting = [];
  #items = new Map();
  #unseen = 0;
  #untold = 0;
  /** Whether the list stays at its end. Only the viewer's own scrolling changes it. */
  #follows = true;
  #touchedAt = 0;
  #toldAt = 0;
  #timer = 0;

  constructor(section) {
    [this.#view, this.#list, this.#newer, this.#spoken] = ['#log', 'ol', '#newer', '#spoken'].map((selector) => section.querySelector(selector));
    this.#newer.onclick = () => this.#toEnd();
    for (const type of ['wheel', 'touchmove', 'keydown', 'pointerdown']) {
      this.#view.addEventListener(type, () => (this.#touchedAt = Date.now()), { passive: true });
    }
    this.#view.onscroll = () => this.#scrolled();
    new ResizeObserver(() => this.#follows && this.#toEnd()).observe(this.#view);
  }

  get isEmpty() {
    return !this.#waiting.length && !this.#list.firstChild;
  }

  /** Adds comments, oldest first. */
  add(comments) {
    this.#waiting = this.#waiting.concat(comments).slice(-ITEMS_MAX);
    if (document.hidden || comments[0]?.replay) this.#show(ITEMS_MAX);
    else if (!this.#timer) this.#flow();
  }

  /** Says that comments are missing here. */
  addGap() {
    this.#show(ITEMS_MAX);
    this.#append([make('li', 'gap', say('missed'))]);
  }

  retract(ids) {
    this.#waiting = this.#waiting.filter(({ id }) => !ids.includes(id));
    for (const id of ids) {
      this.#items.get(id)?.remove();
      this.#items.delete(id);
    }
  }

  clear() {
    this.#waiting = [];
    this.#items.clear();
    this.#list.replaceChildren();
    this.#seen();
  }

  #flow() {
    this.#show(Math.ceil(this.#waiting.length * SHARE));
    this.#timer = this.#waiting.length && setTimeout(() => this.#flow(), TICK_MS);
  }

  #show(max) {
    const comments = this.#waiting.splice(0, max);
    if (!comments.length) return;
    this.#append(comments.map((comment) => {
      this.#items.set(comment.id, chatItem(comment));
      return this.#items.get(comment.id);
    }));
    this.#tell(comments);
  }

  #append(items) {
    this.#list.append(...items);
    // Someone who reads further up keeps what they read, within bounds.
    const max = this.#follows ? ITEMS_MAX : 3 * ITEMS_MAX;
    while (this.#list.childElementCount > max) {
      this.#items.delete(Number(this.#list.firstChild.dataset.id));
      this.#list.firstChild.remove();
    }
    if (this.#follows) return this.#toEnd();
    this.#unseen += items.length;
    this.#newer.textContent = say('newer', { n: count(this.#unseen) });
    this.#newer.hidden = false;
  }

  #scrolled() {
    const now = Date.now();
    // A list that was flung goes on without being touched.
    if (now - this.#touchedAt > SCROLL_MS) return;
    this.#follows = this.#isAtEnd();
    if (this.#follows) this.#seen();
    else this.#touchedAt = now;
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#view;
    return scrollHeight - scrollTop - clientHeight < 40;
  }

  #toEnd() {
    this.#follows = true;
    this.#view.scrollTop = this.#view.scrollHeight;
    this.#seen();
  }

  #seen() {
    this.#unseen = 0;
    this.#newer.hidden = true;
  }

  #tell(comments) {
    this.#untold += comments.length;
    if (Date.now() - this.#toldAt < SPOKEN_MS) return;
    const { name, text } = comments.at(-1);
    this.#spoken.textContent = say('spoken', { n: this.#untold, name: name || say('guest'), text });
    this.#untold = 0;
    this.#toldAt = Date.now();
  }
}

function chatItem({ id, name, user, text, role, own, ts }) {
  const item = make('li', own ? 'own' : '');
  item.dataset.id = id;
  item.title = [user, new Date(ts).toLocaleTimeString()].filter(Boolean).join(' · ');
  if (say(role)) item.append(make('i', role, say(role)));
  const author = make('b', '', name || say('guest'));
  author.style.setProperty('--hue', hue(name || user || ''));
  item.append(author, make('span', '', text));
  return item;
}

function make(tag, className, textContent = '') {
  return Object.assign(document.createElement(tag), { className, textContent, dir: tag === 'li' ? '' : 'auto' });
}

/** The same colour for the same author, as an angle. */
function hue(author) {
  return [...author].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
}

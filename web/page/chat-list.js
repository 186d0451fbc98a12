// The list of comments beside the player.

import { count, say } from './strings.js';

const ITEMS_MAX = 200;
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
  #toldAt = 0;
  #timer = 0;

  constructor(section) {
    [this.#view, this.#list, this.#newer, this.#spoken] = ['#log', 'ol', '#newer', '#spoken'].map((selector) => section.querySelector(selector));
    this.#newer.onclick = () => this.#toEnd();
    this.#view.onscroll = () => this.#isAtEnd() && this.#seen();
    new ResizeObserver(() => this.#unseen || this.#toEnd()).observe(this.#view);
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
    const follow = this.#isAtEnd();
    this.#list.append(...items);
    // Someone who reads further up keeps what they read, within bounds.
    const max = follow ? ITEMS_MAX : 3 * ITEMS_MAX;
    while (this.#list.childElementCount > max) {
      this.#items.delete(Number(this.#list.firstChild.dataset.id));
      this.#list.firstChild.remove();
    }
    if (follow) return this.#toEnd();
    this.#unseen += items.length;
    this.#newer.textContent = say('newer', { n: count(this.#unseen) });
    this.#newer.hidden = false;
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#view;
    return scrollHeight - scrollTop - clientHeight < 40;
  }

  #toEnd() {
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

// The box that comments are posted with.

import { say, translate } from './strings.js';

const TEXT_MAX = 200;
/** A post that takes longer is shown as being sent. */
const SLOW_MS = 400;
const OUTAGES = ['network', 'timeout', 'closed', 'stopping', 'unavailable'];
const $ = (id) => document.getElementById(id);

export class Composer {
  #room;
  #settings;
  #text = $('text');
  #refusedUntil = 0;
  #timer = 0;
  /** The code of the refusal that is shown. */
  #refusal;

  constructor(room, settings) {
    this.#room = room;
    this.#settings = settings;
    this.#text.oninput = () => this.#count();
    this.#text.onkeydown = ({ key, isComposing }) => {
      if (key === 'Escape' && !isComposing) this.#text.blur();
    };
    $('composer').onsubmit = (event) => {
      event.preventDefault();
      this.#post();
    };
  }

  focus() {
    this.#text.focus();
  }

  /** Shows the chosen name and colour. */
  refresh() {
    const name = this.#settings.get('name');
    this.#text.placeholder = say(name ? 'hint_named' : 'hint', { name });
    $('brush').style.color = `#${this.#settings.get('color').toString(16).padStart(6, '0')}`;
  }

  #post() {
    const text = this.#text.value;
    if (Date.now() < this.#refusedUntil) return;
    const [user, mode, color, name] = ['user', 'mode', 'color', 'name'].map((key) => this.#settings.get(key));
    this.#fill('');
    this.#refuse();
    if (text.trim()) this.#deliver({ text, user, mode, color, name: name || undefined });
    else this.#refuse({ code: 'text_empty' });
  }

  /** A comment that fails goes back into the box, or is kept above it if something else was typed since. */
  async #deliver(comment) {
    const item = outgoing(comment.text);
    const timer = setTimeout(() => $('outbox').append(item), SLOW_MS);
    try {
      await this.#room.post(comment);
      item.remove();
    } catch (error) {
      if (this.#text.value) return this.#keep(item, comment, error);
      item.remove();
      this.#fill(comment.text);
      this.#refuse(error);
    } finally {
      clearTimeout(timer);
    }
  }

  #keep(item, comment, error) {
    const reason = Object.assign(document.createElement('small'), { textContent: say(error.code) ?? error.message });
    const again = button('retry', () => {
      item.remove();
      this.#deliver(comment);
    });
    item.lastChild.replaceWith(reason, again, button('discard', () => item.remove()));
    translate(item);
    $('outbox').append(item);
  }

  /** The state of the connection: nothing can be posted to a closed room, and what the connection was blamed for is over. */
  connection(state) {
    for (const id of ['text', 'send', 'like']) $(id).disabled = state === 'closed';
    if (state === 'joined' && OUTAGES.includes(this.#refusal)) this.#refuse();
  }

  /** Says why the server refused, and counts down until it will not. */
  #refuse(error) {
    clearInterval(this.#timer);
    this.#refusal = error?.code;
    this.#refusedUntil = Date.now() + (error?.retryAfterMs ?? 0);
    const n = this.#countDown();
    const reason = error && (say(error.code) ?? error.message);
    // Not repeated while it counts down: screen readers read each change aloud.
    $('refusal').textContent = n > 0 ? say('wait', { reason, n }) : (reason ?? '');
    if (n > 0) this.#timer = setInterval(() => this.#countDown() > 0 || this.#refuse(), 200);
  }

  #countDown() {
    const n = Math.ceil((this.#refusedUntil - Date.now()) / 1000);
    $('send').textContent = n > 0 ? n : say('send');
    $('send').ariaDisabled = n > 0;
    return n;
  }

  #fill(text) {
    this.#text.value = text;
    this.#count();
  }

  #count() {
    const left = TEXT_MAX - [...this.#text.value].length;
    $('left').textContent = left < 50 ? left : '';
    $('left').className = left < 0 ? 'over' : '';
  }
}

/** A comment that is being sent. */
function outgoing(text) {
  const item = document.createElement('li');
  const state = document.createElement('small');
  state.dataset.text = 'sending';
  item.append(Object.assign(document.createElement('span'), { textContent: text, dir: 'auto' }), state);
  translate(item);
  return item;
}

function button(key, onclick) {
  const element = Object.assign(document.createElement('button'), { type: 'button', onclick });
  element.dataset.text = key;
  return element;
}

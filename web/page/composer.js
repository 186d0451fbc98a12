// The box that comments are posted with.

import { say } from './strings.js';

const TEXT_MAX = 200;
const $ = (id) => document.getElementById(id);

export class Composer {
  #room;
  #settings;
  #text = $('text');
  #refusedUntil = 0;
  #timer = 0;

  constructor(room, settings) {
    this.#room = room;
    this.#settings = settings;
    this.#text.oninput = () => this.#count();
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

  async #post() {
    const text = this.#text.value;
    if (Date.now() < this.#refusedUntil) return;
    const [user, mode, color, name] = ['user', 'mode', 'color', 'name'].map((key) => this.#settings.get(key));
    this.#fill('');
    this.#refuse();
    try {
      if (!text.trim()) throw { code: 'text_empty' };
      await this.#room.post({ text, user, mode, color, name: name || undefined });
    } catch (error) {
      this.#fill(this.#text.value || text);
      this.#refuse(error);
    }
  }

  /** Says why the server refused, and counts down until it will not. */
  #refuse(error) {
    clearInterval(this.#timer);
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

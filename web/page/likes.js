// Hearts that float up over the player.

const HEARTS_MAX = 24;
const SPREAD_MS = 900;

export class Likes {
  #place;
  #still;
  /** Likes of this viewer that no batch has brought yet: their hearts are up already. */
  #own = 0;

  /** With `still`, there are no hearts. */
  constructor(place, still) {
    this.#place = place;
    this.#still = still;
  }

  press() {
    this.#own += 1;
    this.#float(0);
  }

  /** `n` likes arrived. */
  show(n) {
    const others = n - this.#own;
    this.#own = Math.max(0, -others);
    for (let heart = 0; heart < Math.min(others, 8); heart += 1) this.#float(Math.random() * SPREAD_MS);
  }

  #float(delay) {
    if (this.#still || document.hidden || this.#place.childElementCount >= HEARTS_MAX) return;
    const heart = document.createElement('i');
    const drift = Math.random() * 70 - 35;
    heart.style.color = `hsl(${325 + Math.random() * 60} 90% 66%)`;
    this.#place.append(heart);
    const frames = [
      { transform: 'scale(.2)', opacity: 0 },
      { transform: `translate(${drift / 3}px, -40px) scale(1.15)`, opacity: 1, offset: 0.15 },
      { transform: `translate(${drift}px, -150px) rotate(${drift}deg)`, opacity: 0.9, offset: 0.6 },
      { transform: `translate(${drift / 2}px, -260px) rotate(${-drift}deg) scale(.8)`, opacity: 0 },
    ];
    heart.animate(frames, { duration: 3000, delay, easing: 'ease-out', fill: 'backwards' }).onfinish = () => heart.remove();
  }
}

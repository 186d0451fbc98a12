// Lane choice, under a fake clock: whatever comes, no two comments of a lane ever overlap.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { NO_WAIT_MS, choosePlace, topOf } from '../renderer/lanes.js';

const LANE_HEIGHT = 38;
const DURATION_MS = 8000;
const FIXED_MS = 4000;

/** Numbers from 0 to 1 that a seed repeats (mulberry32). */
function randomOf(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function boxOf(random, stage) {
  const { now: start, width: stageWidth } = stage;
  const kind = random();
  const fixed = kind > 0.7;
  const width = Math.round(20 + random() ** 4 * 5000);
  const height = Math.round(20 + random() ** 3 * 80);
  const speed = (stageWidth + Math.min(width, stageWidth)) / DURATION_MS;
  const end = start + (fixed ? FIXED_MS : (stageWidth + width) / speed);
  return { fixed, fromBottom: kind > 0.85, width, height, start, end, x: stageWidth, speed };
}

const leftOf = (box, now, { width }) =>
  box.fixed ? (width - box.width) / 2 : box.x - box.speed * (now - box.start);

/** Whether they share a lane and, at `now`, pixels. */
function overlap(a, b, now, stage) {
  if (a.fixed !== b.fixed || a.layer !== b.layer || now < a.start || now < b.start) return false;
  const [top, otherTop] = [topOf(a, stage.height), topOf(b, stage.height)];
  const [left, otherLeft] = [leftOf(a, now, stage), leftOf(b, now, stage)];
  const acrossY = top < otherTop + b.height && otherTop < top + a.height;
  return acrossY && left < otherLeft + b.width && otherLeft < left + a.width;
}

/** Plays random comments on a stage whose width `change` may alter, and calls `check` with what is on it every few ms. */
function play(seed, { density = 1, ownShare = 0.1, change = () => {}, check }) {
  const random = randomOf(seed);
  const size = { width: Math.round(300 + random() * 1500), height: Math.round(100 + random() * 900) };
  const stage = { now: 0, ...size, area: 0.3 + random() * 0.7, density, laneHeight: LANE_HEIGHT };
  let boxes = [];
  let shown = 0;
  for (; stage.now < 40_000; stage.now += 20 + random() * 60) {
    change(stage, random);
    boxes = boxes.filter(({ end }) => end > stage.now);
    const box = boxOf(random, stage);
    const place = choosePlace(boxes, box, stage);
    const isOwn = random() < ownShare;
    if (place.waitMs <= NO_WAIT_MS || isOwn) {
      const wait = place.waitMs <= NO_WAIT_MS ? 0 : place.waitMs;
      boxes.push({ ...box, ...place, start: box.start + wait, end: box.end + wait });
      shown++;
    }
    check(boxes, stage);
  }
  assert.ok(shown > 30, `only ${shown} of seed ${seed}`);
  return shown;
}

/** Fails if two of them overlap now. */
function assertApart(seed) {
  return (boxes, stage) => {
    boxes.forEach((box, index) => {
      const other = boxes.find((before, earlier) => earlier < index && overlap(before, box, stage.now, stage));
      if (other) assert.fail(`seed ${seed} at ${stage.now}: ${JSON.stringify([other, box, stage])}`);
    });
  };
}

test('no two comments of a lane overlap at any time, whatever their size, speed, mode and delay', () => {
  for (let seed = 1; seed <= 40; seed++) play(seed, { check: assertApart(seed) });
});

test('nor in the layers that a density above 1 adds, nor with one below 1', () => {
  for (let seed = 1; seed <= 20; seed++) play(seed, { density: 0.2 + seed / 6, check: assertApart(seed) });
});

test('nor among those that scroll after the stage has become wider or narrower', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const change = (stage, random) => {
      if (random() > 0.98) stage.width = Math.round(300 + random() * 1500);
    };
    const check = (boxes, stage) => assertApart(seed)(boxes.filter(({ fixed }) => !fixed), stage);
    play(seed, { change, check });
  }
});

test('comments stay inside the area', () => {
  for (let seed = 1; seed <= 20; seed++) {
    play(seed, {
      check(boxes, { height, area }) {
        for (const box of boxes) {
          const room = Math.max(height * area, box.height);
          assert.ok(box.offset >= 0 && box.offset + box.height <= room + 1e-9, JSON.stringify(box));
        }
      },
    });
  }
});

test('more density shows more', () => {
  const shown = [0.25, 0.5, 1, 2, 4].map((density) => play(2, { density, ownShare: 0, check() {} }));
  assert.deepEqual(shown, [...new Set(shown)].sort((a, b) => a - b));
});

test('a lane is taken again as soon as the one before has made room', () => {
  const stage = { now: 0, width: 1000, height: LANE_HEIGHT, area: 1, density: 1, laneHeight: LANE_HEIGHT };
  const box = (start, width, speed) => {
    const end = start + (1000 + width) / speed;
    return { fixed: false, fromBottom: false, width, height: 30, start, end, x: 1000, speed };
  };
  const first = { ...box(0, 184, 0.2), ...choosePlace([], box(0, 184, 0.2), stage) };
  assert.equal(first.waitMs, 0);
  // Its tail and 16 pixels need (184 + 16) / 0.2 ms to come in.
  assert.equal(choosePlace([first], box(0, 100, 0.2), stage).waitMs, 1000);
  // One of twice the speed must be 16 pixels short of the left edge when the first one leaves it, at 5,920 ms.
  assert.equal(choosePlace([first], box(0, 100, 0.4), stage).waitMs, 5920 - 984 / 0.4);
});

test('scrolling comments avoid the lane of a fixed one while another is free', () => {
  const stage = { now: 0, width: 1000, height: 2 * LANE_HEIGHT, area: 1, density: 1, laneHeight: LANE_HEIGHT };
  const common = { fromBottom: false, width: 100, height: 30, start: 0, x: 1000, speed: 0.2 };
  const top = { ...common, fixed: true, end: 4000, offset: 0, layer: 0 };
  const scroll = { ...common, fixed: false, end: 5500 };
  const place = choosePlace([top], scroll, stage);
  assert.equal(place.offset, LANE_HEIGHT);
  const next = choosePlace([top, { ...scroll, ...place }], scroll, stage);
  assert.deepEqual([next.offset, next.waitMs <= NO_WAIT_MS], [0, true]);
});

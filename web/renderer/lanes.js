// Where a comment goes: the first place in which it never touches another one, from pure geometry and stage time.

/**
 * A comment's box on the stage. A scrolling one is `x` from the left at `start` and moves left; a fixed one is centred.
 * @typedef {object} Box
 * @property {boolean} fixed it stands still
 * @property {boolean} fromBottom `offset` counts from the stage's bottom edge
 * @property {number} offset distance from its edge, CSS pixels
 * @property {number} layer boxes of different layers may overlap
 * @property {number} width
 * @property {number} height
 * @property {number} start stage time at which it appears, ms
 * @property {number} end stage time at which it is gone, ms
 * @property {number} x
 * @property {number} speed CSS pixels per ms
 */

/**
 * @typedef {object} Stage
 * @property {number} now stage time, ms
 * @property {number} width
 * @property {number} height
 * @property {number} area the share of the height that lanes may use
 * @property {number} density comments as a multiple of what fits; above 1 in layers that overlap
 * @property {number} laneHeight
 */

/** The least distance between two comments of a lane, CSS pixels. */
const GAP = 16;
/** Fixed comments take at most this share of the height, so that they leave the middle of the picture free. */
const FIXED_AREA = 1 / 3;
/** A wait this short only ranks places: scrolling comments avoid lanes with a fixed one while others are free. */
export const NO_WAIT_MS = 1e-6;

/**
 * The distance of a box's top from the top of the stage.
 * @param {Pick<Box, 'fromBottom' | 'offset' | 'height'>} box
 * @param {number} height the stage's
 */
export const topOf = (box, height) => (box.fromBottom ? height - box.offset - box.height : box.offset);

/**
 * How long `next` has to wait so that it never touches `box` in the same lane, ms; 0 or less: it need not.
 * @param {Box} box
 * @param {Omit<Box, 'offset' | 'layer'>} next
 * @param {Stage} stage
 */
function waitBehind(box, next, { now, width, density }) {
  const spare = 1 / Math.min(density, 1) - 1;
  if (box.fixed) return box.end + spare * (box.end - box.start) - now;
  const tailIsIn = box.start + (box.x + box.width * (1 + spare) + GAP - width) / box.speed;
  // A faster one must not have caught up when this one's tail leaves the stage.
  const isNotCaught = box.end - (width - GAP) / next.speed;
  return Math.max(tailIsIn, isNotCaught) - now;
}

/**
 * The first place from `next`'s edge where it fits now, else the one where it fits soonest.
 * @param {readonly Box[]} boxes all on the stage
 * @param {Omit<Box, 'offset' | 'layer'>} next
 * @param {Stage} stage
 * @returns {{offset: number, layer: number, waitMs: number}}
 */
export function choosePlace(boxes, next, stage) {
  const { height, area, density, laneHeight } = stage;
  const share = next.fixed ? Math.min(area, FIXED_AREA) : area;
  const layers = Math.max(1, Math.round(density));
  let best = { offset: 0, layer: 0, waitMs: Infinity };
  for (let layer = 0; layer < layers; layer++) {
    const shift = Math.round((layer / layers) * laneHeight);
    const lanes = Math.floor((height * share - shift) / laneHeight) - Math.ceil(next.height / laneHeight) + 1;
    const waits = new Float64Array(Math.max(1, lanes));
    for (const box of boxes) {
      if (box.layer !== layer || (next.fixed && !box.fixed)) continue;
      const waitMs = box.fixed === next.fixed ? waitBehind(box, next, stage) : NO_WAIT_MS;
      const top = topOf(box, height);
      const near = (next.fromBottom ? height - top - box.height : top) - shift;
      waits.forEach((before, lane) => {
        const isBeside = near < lane * laneHeight + next.height && lane * laneHeight < near + box.height;
        if (isBeside) waits[lane] = Math.max(before, waitMs);
      });
    }
    for (const [lane, waitMs] of waits.entries()) {
      if (waitMs < best.waitMs) best = { offset: lane * laneHeight + shift, layer, waitMs };
      if (waitMs === 0) return best;
    }
  }
  return best;
}

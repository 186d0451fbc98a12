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

/**
 * The distance of a box's top from the top of the stage.
 * @param {Pick<Box, 'fromBottom' | 'offset' | 'height'>} box
 * @param {number} height the stage's
 */
export const topOf = (box, height) => (box.fromBottom ? height - box.offset - box.height : box.offset);

/**
 * How long `next` has to wait so that it never touches `box` in the same lane, ms; 0 or less: it need not.
 * @param {Box} box
 * @param {Box} next
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
 * @param {Box} next its offset and layer are not looked at
 * @param {Stage} stage
 * @returns {{offset: number, layer: number, waitMs: number}}
 */
export function choosePlace(boxes, next, stage) {
  const { height, area, density, laneHeight } = stage;
  const layers = Math.max(1, Math.round(density));
  let best = { offset: 0, layer: 0, waitMs: Infinity };
  for (let layer = 0; layer < layers; layer++) {
    const shift = (layer / layers) * laneHeight;
    const lanes = Math.max(1, Math.floor((height * area - shift) / laneHeight));
    const span = Math.min(lanes, Math.ceil(next.height / laneHeight));
    const waits = new Float64Array(lanes);
    for (const box of boxes) {
      if (box.fixed !== next.fixed || box.layer !== layer) continue;
      const waitMs = waitBehind(box, next, stage);
      if (waitMs <= 0) continue;
      const top = topOf(box, height);
      const near = (next.fromBottom ? height - top - box.height : top) - shift;
      const last = Math.min(lanes, Math.ceil((near + box.height) / laneHeight));
      for (let lane = Math.max(0, Math.floor(near / laneHeight)); lane < last; lane++) {
        waits[lane] = Math.max(waits[lane], waitMs);
      }
    }
    for (let lane = 0; lane + span <= lanes; lane++) {
      const waitMs = Math.max(...waits.subarray(lane, lane + span));
      if (waitMs < best.waitMs) best = { offset: lane * laneHeight + shift, layer, waitMs };
      if (waitMs === 0) return best;
    }
  }
  return best;
}

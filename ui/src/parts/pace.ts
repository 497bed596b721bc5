// The pace at which turns are drawn. A turn that comes into view has its place and what was asked at once; the rest is
// drawn in the frames that follow, so that no frame draws more than fits into it, however fast a hand moves.
import { flushSync } from 'svelte';

/** Script of a frame may take this long in milliseconds: style, layout and paint of what it drew cost about as much again. */
const SCRIPT_MS = 4;

/** Where a turn stands in its list. */
export interface Place {
  /** The height that the list holds it to have, in pixels: measured before, or a guess. */
  height(): number;
  /** How long it can wait: 0 is what is read now. Asked anew in each frame. */
  rank(): number;
  /** So many milliseconds it must have been there before it is asked for: what only flies past never is. */
  grace(): number;
}

interface Waiting {
  readonly from: number;
  readonly rank: () => number;
  readonly draw: () => void;
}
const waiting = new Set<Waiting>();
let due = false;

/** Draws as soon as it is this one's turn, and not before `after` milliseconds; what it gives back takes it out again. */
export function inTurn(rank: () => number, draw: () => void, after = 0): () => void {
  const one = { from: performance.now() + after, rank, draw };
  waiting.add(one);
  wake();
  return () => void waiting.delete(one);
}

function wake(): void {
  if (due || waiting.size === 0) return;
  due = true;
  requestAnimationFrame(frame);
}

/** One at least, and more while there is time. */
function frame(): void {
  due = false;
  const began = performance.now();
  do {
    let next: Waiting | null = null;
    let least = Infinity;
    for (const one of waiting) {
      if (one.from > began) continue;
      const rank = one.rank();
      if (next === null || rank < least) [next, least] = [one, rank];
    }
    if (next === null) break;
    waiting.delete(next);
    next.draw();
    flushSync();
  } while (performance.now() - began < SCRIPT_MS);
  wake();
}

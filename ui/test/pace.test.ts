// What is drawn when: the nearest first, one a frame at least, and nothing that is gone again before its time.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { inTurn } from '../src/parts/pace.ts';

let now = 0;
let asked: (() => void)[] = [];
const drawn: string[] = [];
/** A frame of the screen, and the time until the next. */
function frame() {
  const due = asked;
  asked = [];
  for (const run of due) run();
  now += 16;
}
const turn = (name: string, rank: number, { after = 0, costs = 10 } = {}) =>
  inTurn(
    () => rank,
    () => {
      drawn.push(name);
      now += costs;
    },
    after,
  );

beforeEach(() => {
  now = 1_000;
  drawn.length = 0;
  vi.stubGlobal('requestAnimationFrame', (run: () => void) => asked.push(run));
  vi.spyOn(performance, 'now').mockImplementation(() => now);
});
afterEach(() => {
  while (asked.length > 0) frame();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

test('what is nearest is drawn first, one a frame where one fills it', () => {
  turn('far', 900);
  turn('read', 0);
  turn('near', 100);
  expect(drawn).toEqual([]);
  frame();
  expect(drawn).toEqual(['read']);
  frame();
  frame();
  expect(drawn).toEqual(['read', 'near', 'far']);
  expect(asked).toEqual([]);
});

test('what costs little is drawn together', () => {
  for (const name of ['a', 'b', 'c']) turn(name, 0, { costs: 1 });
  frame();
  expect(drawn).toEqual(['a', 'b', 'c']);
});

test('what has left is not drawn, and what has only come waits', () => {
  const leave = turn('passing', 0, { after: 60 });
  turn('stays', 5, { after: 60 });
  for (let i = 0; i < 3; i++) frame();
  expect(drawn).toEqual([]);
  leave();
  for (let i = 0; i < 2; i++) frame();
  expect(drawn).toEqual(['stays']);
});

test('one that fails does not hold up the others', () => {
  inTurn(
    () => 0,
    () => {
      throw new Error('broken');
    },
  );
  expect(frame).toThrow('broken');
  turn('next', 0);
  frame();
  expect(drawn).toEqual(['next']);
});

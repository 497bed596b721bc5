// The audit page filters as `custody tail` does, and says the same view as a command.
import { describe, expect, test } from 'vitest';
import { command, isEmpty, matcher, parse } from '../src/pages/audit/filter.ts';
import type { audit } from '../src/contracts/index.ts';

const row = (change: Partial<audit.Row> = {}): audit.Row => ({
  schema: 'audit.v1',
  seq: 7,
  time: '2026-11-22T21:00:07.000Z',
  kind: 'run',
  type: 'custody.run.started.v1',
  outcome: 'ok',
  dispatch: 'd-7f3a',
  subject: 'u_jane',
  launcher: 'web',
  object: 'container c1c1',
  id: 'c7/0',
  ...change,
});
const view = (query: string) => parse(new URLSearchParams(query));

describe('a row', () => {
  test.each([
    ['', true],
    ['kind=run', true],
    ['kind=run,effect', true],
    ['kind=effect', false],
    ['outcome=ok&subject=u_jane', true],
    ['outcome=ok&subject=u_omar', false],
    ['dispatch=d-7', true],
    ['dispatch=d-8', false],
    ['since=seq:7', true],
    ['since=seq:8', false],
    ['until=seq:6', false],
    ['since=2026-11-22T21:00:00Z', true],
    ['since=2026-11-22T22:00:00Z', false],
    ['q=CONTAINER c1', true],
    ['q=container nothing', false],
    ['since=nonsense', true],
  ])('under %s passes: %s', (query, passes) => {
    expect(matcher(view(query))(row())).toBe(passes);
  });

  test('of a checkpoint is left out unless it is asked for', () => {
    const checkpoint = row({ kind: 'checkpoint' });
    expect(matcher(view(''))(checkpoint)).toBe(false);
    expect(matcher(view('checkpoints=1'))(checkpoint)).toBe(true);
    expect(matcher(view('kind=checkpoint'))(checkpoint)).toBe(true);
  });
});

test.each([
  ['', 'custody tail'],
  ['kind=run&outcome=refused,failed', 'custody tail --kind run --outcome refused,failed'],
  ['since=seq:10&checkpoints=1', 'custody tail --since seq:10 --checkpoints'],
  ["q=it's", "custody tail | grep -i -- 'it'\\''s'"],
])('%s is the command %s', (query, text) => {
  expect(command(view(query))).toBe(text);
});

test('a view without filters is the whole tail', () => {
  expect(isEmpty(view('checkpoints=1'))).toBe(true);
  expect(isEmpty(view('q=x'))).toBe(false);
});

// What a run changed: hunks with their numbers, and one word for where it stands.
import { expect, test } from 'vitest';
import { hunks, lineCount, shownCommit, standing, type Change } from '../src/pages/dispatch/changes.ts';

const PATCH = '@@ -4,3 +4,4 @@ ## North\n plan\n-is 1.3\n+is 1.2\n++x\n sum\n@@ -20 +21 @@\n-a\n+b\n\\ No newline at end of file\n';

test('hunks keep both numberings, what looks like a sign, and the heading', () => {
  const [first, second] = hunks(PATCH);
  expect(first?.head).toBe('## North');
  expect(first?.lines.map((l) => [l.kind, l.before, l.now, l.text])).toEqual([
    ['same', 4, 4, 'plan'],
    ['removed', 5, null, 'is 1.3'],
    ['added', null, 5, 'is 1.2'],
    ['added', null, 6, '+x'],
    ['same', 6, 7, 'sum'],
  ]);
  expect(second?.lines.map((l) => [l.kind, l.before, l.now])).toEqual([
    ['removed', 20, null],
    ['added', null, 21],
    ['note', null, null],
  ]);
  expect(lineCount(PATCH)).toBe(8);
});

test('nothing is lost of what is of no known form', () => {
  expect(hunks('')).toEqual([]);
  expect(hunks('odd\n')).toEqual([{ head: '', lines: [{ kind: 'note', before: null, now: null, text: 'odd' }] }]);
  expect(hunks('@@ -1 +1 @@\n')).toEqual([{ head: '', lines: [] }]);
});

const change = (more: Partial<Change>): Change => ({ workspace: 'notes', mode: 'rw', base: 'b', outcome: 'landed', commit: 'c', ...more });

test.each([
  [change({}), 'Landed', 'c'],
  [change({ outcome: 'merged' }), 'Landed, merged', 'c'],
  [change({ outcome: 'proposed', proposal: 'open' }), 'Waits for the owner', 'c'],
  [change({ outcome: 'proposed', proposal: 'accepted' }), 'Waits for the owner', 'c'],
  [change({ outcome: 'proposed', proposal: 'landed', landed: 't' }), 'Landed later', 't'],
  [change({ outcome: 'proposed', proposal: 'rejected' }), 'Rejected', null],
])('where a change stands and which commit is shown: %o', (given, word, commit) => {
  expect(standing(given).word).toBe(word);
  expect(shownCommit(given)).toBe(commit);
});

test('what left no commit shows none', () => {
  for (const outcome of ['unchanged', 'refused'] as const) {
    const { commit: _, ...none } = change({ outcome });
    expect(shownCommit(none)).toBe(null);
  }
});

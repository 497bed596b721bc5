// What a dispatch changed, as REST tells it, and the words for it. Pure.
import type { Tone } from '../../words.ts';

/** Source: ChangeShape of the OpenAPI document. */
export interface Change {
  readonly workspace: string;
  readonly mode: 'ro' | 'rw' | 'propose';
  readonly base: string;
  readonly commit?: string;
  readonly outcome: 'unchanged' | 'landed' | 'merged' | 'proposed' | 'refused';
  readonly reason?: string;
  readonly proposal?: 'open' | 'accepted' | 'landed' | 'rejected';
  readonly landed?: string;
}
export interface ChangeList {
  readonly as_of: number;
  readonly ended: boolean;
  readonly rows: readonly Change[];
}
export interface Commit {
  readonly commit: string;
  readonly author: string;
  readonly committer: string;
  readonly time: string;
  readonly subject: string;
}
export interface ChangedFile {
  readonly path: string;
  readonly before?: string;
  readonly change: 'added' | 'deleted' | 'modified' | 'renamed' | 'retyped';
  readonly added: number;
  readonly removed: number;
  readonly binary: boolean;
  readonly patch: string;
  readonly cut: boolean;
}
export interface Diff {
  readonly commit: Commit;
  readonly parent: string | null;
  readonly files: readonly ChangedFile[];
  readonly total: number;
  readonly cut: boolean;
}
export interface ChangeOne {
  readonly as_of: number;
  readonly change: Change;
  readonly diff: Diff;
}

interface Said {
  readonly word: string;
  readonly tone: Tone;
  readonly about: string;
}

/** What became of it, in words. */
export function standing(change: Change): Said {
  switch (change.outcome) {
    case 'unchanged':
      return { word: 'No change', tone: 'off', about: 'What it left is what it found.' };
    case 'landed':
      return { word: 'Landed', tone: 'ok', about: 'It is in the trunk, on the commit that the run began with.' };
    case 'merged':
      return { word: 'Landed, merged', tone: 'ok', about: 'It is in the trunk, merged with what landed meanwhile.' };
    case 'refused':
      return { word: 'Not kept', tone: 'bad', about: 'No commit holds it.' };
    case 'proposed':
      switch (change.proposal) {
        case 'landed':
          return { word: 'Landed later', tone: 'ok', about: 'It was proposed, and the owner landed it.' };
        case 'rejected':
          return { word: 'Rejected', tone: 'bad', about: 'It was proposed, and the owner said no. What was proposed is not kept.' };
        default:
          return { word: 'Waits for the owner', tone: 'wait', about: 'It is no part of the trunk before the owner lands it.' };
      }
  }
}

/** The commit that is to be shown; null: there is none. */
export function shownCommit(change: Change): string | null {
  if (change.proposal === 'rejected') return null;
  return change.landed ?? change.commit ?? null;
}

export const WORDS: Readonly<Record<ChangedFile['change'], string>> = {
  added: 'Added',
  deleted: 'Deleted',
  modified: 'Changed',
  renamed: 'Renamed',
  retyped: 'Other type',
};

export interface Line {
  readonly kind: 'same' | 'added' | 'removed' | 'note';
  readonly before: number | null;
  readonly now: number | null;
  readonly text: string;
}
export interface Hunk {
  /** Where it is: the heading without its signs, with what git found above it. */
  readonly head: string;
  readonly lines: readonly Line[];
}

/** Reads hunks of a unified diff. What is of no known form is a note: nothing is lost. */
export function hunks(patch: string): readonly Hunk[] {
  const found: { head: string; lines: Line[] }[] = [];
  let before = 0;
  let now = 0;
  const lines = patch.split('\n');
  if (lines[lines.length - 1] === '') lines.pop();
  for (const line of lines) {
    const head = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@ ?(.*)$/.exec(line);
    if (head) {
      before = Number(head[1]);
      now = Number(head[2]);
      found.push({ head: head[3] ?? '', lines: [] });
      continue;
    }
    let hunk = found[found.length - 1];
    if (!hunk) found.push((hunk = { head: '', lines: [] }));
    const text = line.slice(1);
    if (line.startsWith('+')) hunk.lines.push({ kind: 'added', before: null, now: now++, text });
    else if (line.startsWith('-')) hunk.lines.push({ kind: 'removed', before: before++, now: null, text });
    else if (line.startsWith(' ')) hunk.lines.push({ kind: 'same', before: before++, now: now++, text });
    else hunk.lines.push({ kind: 'note', before: null, now: null, text: line.startsWith('\\') ? text.trim() : line });
  }
  return found;
}

/** Lines of a patch, headings not counted. */
export const lineCount = (patch: string): number => hunks(patch).reduce((n, hunk) => n + hunk.lines.length, 0);

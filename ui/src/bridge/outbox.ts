// Messages between the keyboard and the log. Each has an id from the moment it is written; that id makes it one command
// however often it is sent, so a reload, a second tab and a lost answer cost nothing. Pure: storage is given in.
import type { ws } from '../contracts/index.ts';

/** In this browser only, or stored in the log and waiting to be seen in it, or refused. */
export type Stage = 'queued' | 'stored' | 'refused';

export interface Entry {
  readonly id: string;
  /** Whose it is: another person in the same browser must not send it. */
  readonly subject: string;
  /** The session it belongs to; null: it begins one. */
  readonly session: string | null;
  readonly text: string;
  readonly at: number;
  readonly command: ws.Cmd;
  readonly stage: Stage;
  readonly seq: number | null;
  /** The dispatch that it became, once the log has it. */
  readonly dispatch: string | null;
  readonly code: string | null;
  readonly detail: string | null;
  readonly hint: string | null;
}

/** What the bridge says to a command. */
export type Answer =
  | { readonly ok: true; readonly seq: number; readonly dispatch: string | null }
  | { readonly ok: false; readonly code: string; readonly detail: string | null; readonly hint: string | null };

/** More than this many unsent messages are a mistake, not a queue. */
export const OUTBOX_MAX = 50;

export const add = (box: readonly Entry[], entry: Entry): readonly Entry[] | null =>
  box.length >= OUTBOX_MAX ? null : box.some((e) => e.id === entry.id) ? box : [...box, entry];

export const answered = (box: readonly Entry[], id: string, answer: Answer): readonly Entry[] =>
  box.map((e) => {
    if (e.id !== id) return e;
    if (answer.ok) return { ...e, stage: 'stored', seq: answer.seq, dispatch: answer.dispatch };
    const { code, detail, hint } = answer;
    return { ...e, stage: 'refused', code, detail, hint };
  });

export const without = (box: readonly Entry[], id: string): readonly Entry[] => box.filter((e) => e.id !== id);

/** What must be sent (again) when a connection comes. */
export const unsent = (box: readonly Entry[], subject: string): readonly Entry[] =>
  box.filter((e) => e.stage === 'queued' && e.subject === subject);

/** A stored text is only an outbox if every entry has its shape; anything else is dropped. */
export function read(value: unknown): readonly Entry[] {
  if (!Array.isArray(value)) return [];
  return value
    .filter(
      (e: Partial<Entry> | null): e is Entry =>
        typeof e?.id === 'string' &&
        typeof e.subject === 'string' &&
        typeof e.text === 'string' &&
        typeof e.at === 'number' &&
        typeof e.command === 'object' &&
        (e.stage === 'queued' || e.stage === 'stored' || e.stage === 'refused'),
    )
    .slice(0, OUTBOX_MAX);
}

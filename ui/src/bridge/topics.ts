// What each topic is: how its snapshot becomes a state and how an event changes it. The cursor is not here.
import type { audit, box, output, ws } from '../contracts/index.ts';
import { applyDispatches, askedOf, type DispatchRow } from '../fold/dispatches.ts';
import { applySessions, type SessionRow } from '../fold/sessions.ts';
import { applyFrames, emptyTalk, type Talk } from '../fold/talk.ts';
import type { LedgerEvent, LogEvent, Table } from '../fold/event.ts';

type State = Readonly<Record<string, unknown>>;

export interface Kind<S> {
  fresh(): S;
  /** The state of a snapshot. What it does not understand it leaves out. */
  snap(state: State): S;
  /** Changes the state; the store says when to look again. */
  apply(state: S, event: ws.Event): void;
}

const list = <T>(value: unknown): readonly T[] => (Array.isArray(value) ? (value as readonly T[]) : []);

const table = <R>(value: unknown, key: (row: R) => string): Table<R> => {
  const rows = Array.isArray(value) ? (value as R[]) : Object.values((value ?? {}) as Record<string, R>);
  return new Map(rows.map((row) => [key(row), row]));
};

/** The person's dispatches, newest ones; everybody's for an administrator. Older ones come in pages. */
export const dispatches: Kind<Table<DispatchRow>> = {
  fresh: () => new Map(),
  snap: (state) => table<DispatchRow>(state['rows'], (row) => row.dispatch),
  apply: (rows, event) => {
    const { dispatch } = event.data as { readonly dispatch?: string };
    const known = dispatch === undefined ? undefined : rows.get(dispatch);
    // What began before the oldest row that is held would be a row without its beginning; what a page brought is not counted twice.
    const begins = event.type === 'custody.dispatch.admitted.v1' || event.type === 'custody.dispatch.refused.v1';
    if (known === undefined ? !begins : event.seq <= known.last_seq) return;
    applyDispatches(rows, event);
  },
};

/** Puts a page of older rows beside what is held; what is held already is as new or newer. */
export function older(rows: Table<DispatchRow>, page: readonly DispatchRow[]): void {
  for (const row of page) if (!rows.has(row.dispatch)) rows.set(row.dispatch, row);
}

export const sessions: Kind<Table<SessionRow>> = {
  fresh: () => new Map(),
  snap: (state) => {
    const rows = table<SessionRow>(state['rows'], (row) => row.session);
    // Run events name their dispatch only: pointer rows lead to the session.
    for (const row of [...rows.values()]) {
      for (const turn of row.turns) rows.set(`dispatch/${turn.dispatch}`, { ...row, turns: [], turn_count: 0 });
    }
    return rows;
  },
  apply: applySessions,
};

/** One dispatch: its row and every event of it. */
export interface One {
  rows: Table<DispatchRow>;
  events: LogEvent[];
  /** Events before this one are not shown any more. */
  from: number;
}
export const dispatch: Kind<One> = {
  fresh: () => ({ rows: new Map(), events: [], from: 0 }),
  snap: (state) => {
    const one: One = { rows: new Map(), events: [], from: 0 };
    for (const event of list<ws.Event>(state['events'])) dispatch.apply(one, event);
    // The row is a fold of all events, also of those that did not fit.
    const row = state['row'] as DispatchRow | undefined;
    if (row) one.rows.set(row.dispatch, row);
    if (typeof state['events_before'] === 'number') one.from = state['events_before'];
    return one;
  },
  apply: (one, event) => {
    applyDispatches(one.rows, event);
    one.events = [...one.events, event];
  },
};

/** One session: its dispatches in their order, and what was asked in each. */
export interface Thread {
  rows: Table<DispatchRow>;
  asked: Map<string, string>;
}
export const session: Kind<Thread> = {
  fresh: () => ({ rows: new Map(), asked: new Map() }),
  snap: (state) => ({
    rows: table<DispatchRow>(state['dispatches'], (row) => row.dispatch),
    asked: new Map(Object.entries((state['prompts'] ?? {}) as Record<string, string>)),
  }),
  apply: (thread, raw) => {
    const event = raw as unknown as LedgerEvent;
    applyDispatches(thread.rows, raw);
    if (event.type === 'custody.dispatch.admitted.v1') thread.asked.set(event.data.dispatch, askedOf(event.data));
  },
};

/** What a dispatch says. */
export const talk: Kind<Talk> = {
  fresh: emptyTalk,
  snap: (state) => {
    const talk = emptyTalk();
    const frames = list<box.Frame>(state['frames']);
    // In a snapshot words that follow words are one frame with the last one's number.
    talk.seen = (frames[0]?.seq ?? 1) - 1;
    applyFrames(talk, frames);
    talk.missing_before = null;
    if (typeof state['missing_before'] === 'number') talk.missing_before = state['missing_before'];
    return talk;
  },
  apply: (talk, event) => {
    if (event.type === 'custody.output.chunk.v1') applyFrames(talk, (event.data as unknown as output.Chunk).frames);
  },
};

/** The newest rows of the audit tail; the page asks for older ones as they are scrolled to. */
export interface Tail {
  rows: audit.Row[];
}
export const AUDIT_KEPT_MAX = 50_000;
export const auditTail: Kind<Tail> = {
  fresh: () => ({ rows: [] }),
  snap: (state) => ({ rows: [...list<audit.Row>(state['rows'])] }),
  apply: (tail, event) => {
    tail.rows.push(event.data as unknown as audit.Row);
    if (tail.rows.length > AUDIT_KEPT_MAX) tail.rows.splice(0, tail.rows.length - AUDIT_KEPT_MAX);
  },
};

/** How the installation is: each change is a new snapshot. */
export const health: Kind<{ value: State }> = {
  fresh: () => ({ value: {} }),
  snap: (state) => ({ value: state }),
  apply: () => {},
};

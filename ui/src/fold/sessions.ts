// Every session, its turns, and the file that the next one resumes from: the twin of projections/src/sessions.rs.
import { edit, type LedgerEvent, type LogEvent, type Table } from './event.ts';

/** How many turns a row keeps; older ones are counted. */
export const TURNS_KEPT_MAX = 200;

export interface Turn {
  readonly dispatch: string;
  readonly container: string | null;
  readonly outcome: string | null;
  readonly resumed_from: string | null;
  readonly left: string | null;
}

export interface SessionRow {
  readonly session: string;
  readonly subject: string;
  readonly runner: string;
  readonly turns: readonly Turn[];
  readonly turn_count: number;
  readonly digest: string | null;
  readonly bytes: number;
  readonly agent_session: string | null;
  readonly began_at: string;
  readonly last_seq: number;
}

const fresh = (): SessionRow => ({
  session: '',
  subject: '',
  runner: '',
  turns: [],
  turn_count: 0,
  digest: null,
  bytes: 0,
  agent_session: null,
  began_at: '',
  last_seq: 0,
});

/** Folds one event. A run event names its dispatch and not its session: pointer rows `dispatch/<id>` say where to look. */
export function applySessions(table: Table<SessionRow>, raw: LogEvent): void {
  const event = raw as LedgerEvent;
  switch (event.type) {
    case 'custody.dispatch.admitted.v1': {
      const e = event.data;
      edit(table, e.session, fresh, (row) => ({
        ...row,
        ...(row.turn_count === 0
          ? { session: e.session, subject: e.unit.identity.subject, began_at: event.time }
          : {}),
        runner: e.runner.name,
        turn_count: row.turn_count + 1,
        turns: [
          ...row.turns,
          { dispatch: e.dispatch, container: null, outcome: null, resumed_from: null, left: null },
        ].slice(-TURNS_KEPT_MAX),
        last_seq: event.seq,
      }));
      edit(table, `dispatch/${e.dispatch}`, fresh, (row) => ({ ...row, session: e.session }));
      return;
    }
    case 'custody.run.claimed.v1':
      onTurn(table, event, (turn) => ({ ...turn, resumed_from: event.data.resume_digest }));
      return;
    case 'custody.run.started.v1':
      onTurn(table, event, (turn) => ({ ...turn, container: event.data.container }));
      return;
    case 'custody.run.finished.v1': {
      const e = event.data;
      const found = onTurn(table, event, (turn) => ({ ...turn, outcome: e.reason, left: e.session?.digest ?? null }));
      // Only a first terminal event says what the next turn resumes from.
      if (found && found.changed && e.session) {
        const file = e.session;
        edit(table, found.session, fresh, (row) => ({
          ...row,
          digest: file.digest,
          bytes: file.bytes,
          agent_session: e.agent_session ?? row.agent_session,
        }));
      }
      return;
    }
    default:
  }
}

/** Changes the turn of an event's dispatch while it is open. A turn that fell out of the kept ones counts as open. */
function onTurn(
  table: Table<SessionRow>,
  event: { readonly seq: number; readonly data: { readonly dispatch: string } },
  change: (turn: Turn) => Turn,
): { session: string; changed: boolean } | null {
  const { dispatch } = event.data;
  const session = table.get(`dispatch/${dispatch}`)?.session;
  if (session === undefined) return null;
  const turns = table.get(session)?.turns ?? [];
  const at = turns.findIndex((t) => t.dispatch === dispatch);
  const changed = (turns[at]?.outcome ?? null) === null;
  edit(table, session, fresh, (row) => ({
    ...row,
    last_seq: event.seq,
    turns: changed ? row.turns.map((t, i) => (i === at ? change(t) : t)) : row.turns,
  }));
  return { session, changed };
}

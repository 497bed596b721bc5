// Every dispatch and where it stands: the twin of projections/src/dispatches.rs.
import type { ledger, unit } from '../contracts/index.ts';
import { edit, type LedgerEvent, type LogEvent, type Table } from './event.ts';

/** What stands where words stood whose key is destroyed. */
export const ERASED = '(erased)';

export type Status = 'queued' | 'refused' | 'starting' | 'running' | 'stopping' | 'completed' | 'parked' | 'ended';

export interface DispatchRow {
  readonly dispatch: string;
  readonly status: Status;
  readonly subject: string | null;
  readonly launcher: string;
  readonly session: string | null;
  readonly runner: string | null;
  readonly image: string | null;
  readonly what: string;
  readonly decided_at: string;
  readonly reason: string | null;
  readonly detail: string | null;
  readonly hint: string | null;
  readonly attempt: number;
  readonly container: string | null;
  readonly started_at: number | null;
  readonly finished_at: number | null;
  readonly exit_code: number | null;
  readonly usage: ledger.Usage | null;
  readonly output: ledger.OutputRef | null;
  readonly session_digest: string | null;
  readonly resume_digest: string | null;
  readonly grant: string | null;
  readonly stop_by: string | null;
  readonly turns_max: number | null;
  readonly follow_ups: number;
  readonly turns: number | null;
  readonly claimed_seq: number;
  readonly terminal_events: number;
  readonly first_seq: number;
  readonly last_seq: number;
}

export const isTerminal = (status: Status): boolean =>
  status === 'refused' || status === 'completed' || status === 'parked' || status === 'ended';

const fresh = (): DispatchRow => ({
  dispatch: '',
  status: 'queued',
  subject: null,
  launcher: '',
  session: null,
  runner: null,
  image: null,
  what: '',
  decided_at: '',
  reason: null,
  detail: null,
  hint: null,
  attempt: 0,
  container: null,
  started_at: null,
  finished_at: null,
  exit_code: null,
  usage: null,
  output: null,
  session_digest: null,
  resume_digest: null,
  grant: null,
  stop_by: null,
  turns_max: null,
  follow_ups: 0,
  turns: null,
  claimed_seq: 0,
  terminal_events: 0,
  first_seq: 0,
  last_seq: 0,
});

/** Folds one event into the table. What ended stays as it ended. */
export function applyDispatches(table: Table<DispatchRow>, raw: LogEvent): void {
  const event = raw as LedgerEvent;
  switch (event.type) {
    case 'custody.dispatch.admitted.v1': {
      const e = event.data;
      touch(table, e.dispatch, event, (row) => ({
        ...row,
        subject: e.unit.identity.subject,
        launcher: e.launch.launcher,
        session: e.session,
        runner: e.runner.name,
        image: e.runner.image,
        what: firstWords(askedOf(e)),
        grant: raw.grant ?? null,
        turns_max: e.unit.limits?.turns ?? null,
        decided_at: event.time,
      }));
      return;
    }
    case 'custody.dispatch.refused.v1': {
      const e = event.data;
      touch(table, e.dispatch, event, (row) =>
        row.terminal_events > 0
          ? row
          : {
              ...row,
              status: 'refused',
              subject: raw.subject ?? null,
              launcher: e.launch.launcher,
              reason: e.reason,
              detail: e.detail,
              hint: e.hint,
              decided_at: event.time,
            },
      );
      return;
    }
    case 'custody.key.subject_key_changed.v1':
      if (event.data.state === 'erased') erase(table, event.data.subject);
      return;
    case 'custody.dispatch.stop_requested.v1':
      touch(table, event.data.dispatch, event, (row) => ({
        ...row,
        status: isTerminal(row.status) ? row.status : 'stopping',
        stop_by: row.stop_by ?? event.data.by,
      }));
      return;
    case 'custody.dispatch.follow_up_accepted.v1':
      touch(table, event.data.dispatch, event, (row) => ({ ...row, follow_ups: Math.max(row.follow_ups, event.data.n) }));
      return;
    case 'custody.run.claimed.v1': {
      const e = event.data;
      touch(table, e.dispatch, event, (row) =>
        row.terminal_events > 0
          ? row
          : {
              ...row,
              attempt: e.attempt,
              claimed_seq: event.seq,
              resume_digest: e.resume_digest,
              status: row.status === 'queued' ? 'starting' : row.status,
            },
      );
      return;
    }
    case 'custody.run.started.v1': {
      const e = event.data;
      touch(table, e.dispatch, event, (row) =>
        row.terminal_events > 0
          ? row
          : {
              ...row,
              container: e.container,
              started_at: e.started_at,
              status: row.status === 'queued' || row.status === 'starting' ? 'running' : row.status,
            },
      );
      return;
    }
    case 'custody.run.finished.v1': {
      const e = event.data;
      touch(table, e.dispatch, event, (row) =>
        row.terminal_events > 0
          ? { ...row, terminal_events: row.terminal_events + 1 }
          : {
              ...row,
              terminal_events: 1,
              status: e.reason === 'completed' ? 'completed' : e.parked ? 'parked' : 'ended',
              turns: e.turns ?? null,
              reason: e.reason,
              detail: e.detail ?? null,
              exit_code: e.exit_code ?? null,
              finished_at: e.finished_at,
              usage: e.usage,
              output: e.output,
              session_digest: e.session?.digest ?? null,
              container: row.container ?? e.container ?? null,
            },
      );
      return;
    }
    default:
  }
}

function touch(
  table: Table<DispatchRow>,
  id: string,
  event: { readonly seq: number },
  change: (row: DispatchRow) => DispatchRow,
): void {
  edit(table, id, fresh, (row) => ({
    ...change(row.first_seq === 0 ? { ...row, first_seq: event.seq, dispatch: id } : row),
    last_seq: event.seq,
  }));
}

/** What a person asked before their key was destroyed is shown no more, whatever this fold read of it meanwhile. */
function erase(table: Table<DispatchRow>, subject: string): void {
  const theirs = [...table].filter(([, row]) => row.subject === subject && row.what !== '').map(([id]) => id);
  for (const id of theirs) edit(table, id, fresh, (row) => ({ ...row, what: ERASED }));
}

/** What was asked, in its own words. */
export function promptOf(start: unit.Start): string {
  return start.entrypoint?.inline ?? start.entrypoint?.path ?? start.session?.inline ?? '';
}

/** What a dispatch was asked. Whoever could open sealed words has put them back into the unit before they come here. */
export function askedOf(admitted: ledger.DispatchAdmitted): string {
  return admitted.sealed === undefined ? promptOf(admitted.unit.start) : ERASED;
}

/** Its first 80 characters on one line, control characters shown as spaces. */
export function firstWords(asked: string): string {
  return [...asked]
    .map((c) => (/\p{Cc}/u.test(c) ? ' ' : c))
    .slice(0, 80)
    .join('')
    .trim();
}

// What the auditor asks: chains, launchers, keys, totals, the newest checkpoint, and every event that cannot follow.
// The twin of projections/src/audit.rs.
import type { LedgerData } from '../contracts/index.ts';
import { edit, kindOf, type LedgerEvent, type LogEvent, type Table } from './event.ts';

const CHAIN_KEPT_MAX = 1_000;
const ANOMALIES_KEPT_MAX = 10_000;

export interface LauncherRow {
  readonly launcher: string;
  readonly name: string;
  readonly public_key: string;
  readonly must_sign: boolean;
  readonly subjects: readonly string[];
  readonly disabled: string | null;
  readonly registered_at: string;
  readonly admitted: number;
  readonly refused: number;
}

/** One row; which fields are set follows from its key. */
export interface AuditState {
  readonly count?: number;
  readonly seqs?: readonly number[];
  readonly seen?: string;
  readonly anomaly?: string;
  readonly launcher?: LauncherRow;
  readonly key_role?: string;
  readonly retired?: boolean;
  readonly size?: number;
  readonly root?: string;
}

const fresh = (): AuditState => ({});
const counted = (row: AuditState): AuditState => ({ ...row, count: (row.count ?? 0) + 1 });

/** Folds one event. Anomalies are findings in the state; the fold never stops. */
export function applyAudit(table: Table<AuditState>, raw: LogEvent, known: (type: string) => boolean): void {
  if (!known(raw.type)) {
    anomaly(table, raw, `event type ${JSON.stringify(raw.type)} is not known`);
    return;
  }
  const event = raw as LedgerEvent;
  edit(table, `total/${event.type}`, fresh, counted);
  if (raw.entity !== undefined && raw.entity !== kindOf(raw.type)) {
    anomaly(table, raw, "an event stands on another kind's subject");
  }
  switch (event.type) {
    case 'custody.dispatch.admitted.v1':
      decided(table, event, 'a', event.data.launch.launcher, event.data.grant);
      return;
    case 'custody.dispatch.refused.v1':
      decided(table, event, 'r', event.data.launch.launcher);
      return;
    case 'custody.dispatch.stop_requested.v1':
      saw(table, event.data.dispatch, event.seq, 'x');
      return;
    case 'custody.dispatch.follow_up_accepted.v1': {
      const before = saw(table, event.data.dispatch, event.seq, 'u');
      if (!before.includes('a') || before.includes('f')) {
        anomaly(table, event, 'more was said to a dispatch that was never admitted or has ended');
      }
      return;
    }
    case 'custody.dispatch.follow_up_refused.v1':
      // Under the message's own name: whoever is refused must not write into another one's chain.
      saw(table, event.data.message, event.seq, '');
      return;
    case 'custody.run.claimed.v1':
      onRun(table, event, 'c', 'a', 'a run was claimed for a dispatch that was never admitted');
      return;
    case 'custody.run.started.v1':
      onRun(table, event, 's', 'c', 'a run started that was never claimed');
      return;
    case 'custody.run.finished.v1':
      onRun(table, event, 'f', 'c', 'a run finished that was never claimed');
      return;
    case 'custody.effect.model_called.v1':
      onEffect(table, event, 'a model was called for a dispatch that no runtime claimed');
      return;
    case 'custody.effect.tool_intended.v1':
    case 'custody.effect.tool_finished.v1':
    case 'custody.effect.tool_refused.v1':
    case 'custody.effect.tool_awaiting.v1':
      onEffect(table, event, 'a tool was called for a dispatch that no runtime claimed');
      return;
    case 'custody.effect.budget_warned.v1':
    case 'custody.effect.budget_exhausted.v1':
      onEffect(table, event, 'a budget was used by a dispatch that no runtime claimed');
      return;
    case 'custody.approval.decided.v1':
    case 'custody.approval.expired.v1':
      onEffect(table, event, 'a call was decided about of a dispatch that no runtime claimed');
      return;
    case 'custody.launcher.registered.v1': {
      const e = event.data;
      onLauncher(table, e.launcher, (row) => ({
        ...row,
        launcher: e.launcher,
        name: e.name,
        public_key: e.public_key,
        must_sign: e.signature === 'required',
        subjects: e.subjects,
        disabled: null,
        registered_at: event.time,
      }));
      return;
    }
    case 'custody.launcher.rotated.v1':
      onLauncher(table, event.data.launcher, (row) => ({ ...row, public_key: event.data.public_key }));
      return;
    case 'custody.launcher.disabled.v1':
      onLauncher(table, event.data.launcher, (row) => ({ ...row, disabled: event.data.why }));
      return;
    case 'custody.key.introduced.v1':
      edit(table, `key/${event.data.kid}`, fresh, (row) => ({ ...row, key_role: event.data.role }));
      return;
    case 'custody.key.retired.v1':
      edit(table, `key/${event.data.kid}`, fresh, (row) => ({ ...row, retired: true }));
      return;
    case 'custody.key.token_key_changed.v1': {
      const retired = event.data.state === 'retired';
      edit(table, `key/${event.data.kid}`, fresh, ({ retired: _, ...row }) => ({
        ...row,
        key_role: 'tokens',
        ...(retired ? { retired } : {}),
      }));
      return;
    }
    case 'custody.token.issued.v1':
      saw(table, event.data.dispatch, event.seq, '');
      return;
    case 'custody.token.refused.v1':
      if (event.data.dispatch !== undefined) saw(table, event.data.dispatch, event.seq, '');
      return;
    case 'custody.checkpoint.signed.v1': {
      const grows = event.data.size > (table.get('checkpoint')?.size ?? 0);
      edit(table, 'checkpoint', fresh, (row) => ({ ...row, size: event.data.size, root: event.data.root }));
      if (!grows) anomaly(table, event, 'a checkpoint does not grow');
      return;
    }
    case 'custody.grant.issued.v1':
      sawGrant(table, event.data.grant.id, 'i');
      return;
    case 'custody.grant.revoked.v1':
      sawGrant(table, event.data.grant, 'v');
      return;
    default:
  }
}

function sawGrant(table: Table<AuditState>, id: string, mark: 'i' | 'v'): void {
  edit(table, `grant/${id}`, fresh, (row) => {
    const seen = row.seen ?? '';
    return seen.includes(mark) ? row : { ...row, seen: seen + mark };
  });
}

function anomaly(table: Table<AuditState>, event: { readonly seq: number }, what: string): void {
  const kept = table.get('total/anomaly')?.count ?? 0;
  edit(table, 'total/anomaly', fresh, counted);
  if (kept >= ANOMALIES_KEPT_MAX) {
    edit(table, 'anomaly/dropped', fresh, counted);
    return;
  }
  // One message can be odd in more than one way; none of them hides another.
  edit(table, `anomaly/${String(event.seq).padStart(20, '0')}`, fresh, (row) => ({
    ...row,
    anomaly: row.anomaly === undefined ? what : `${row.anomaly}; ${what}`,
  }));
}

/** Adds an event to a dispatch's chain and answers what was seen before it. */
function saw(table: Table<AuditState>, dispatch: string, seq: number, mark: string): string {
  const before = table.get(`chain/${dispatch}`)?.seen ?? '';
  edit(table, `chain/${dispatch}`, fresh, (row) => {
    const seqs = row.seqs ?? [];
    const seen = row.seen ?? '';
    const next: AuditState = { ...counted(row), seqs: seqs.length < CHAIN_KEPT_MAX ? [...seqs, seq] : seqs };
    if (mark === '' || seen.includes(mark)) return next;
    return { ...next, seen: seen + mark };
  });
  return before;
}

function decided(
  table: Table<AuditState>,
  event: { readonly seq: number; readonly data: { readonly dispatch: string } },
  mark: 'a' | 'r',
  launcher: string,
  grant?: LedgerData['custody.dispatch.admitted.v1']['grant'],
): void {
  const before = saw(table, event.data.dispatch, event.seq, mark);
  if (grant !== undefined) grantUsed(table, event, grant);
  if (/[ar]/.test(before)) anomaly(table, event, 'a dispatch was decided twice');
  const key = `launcher/${launcher}`;
  const row = table.get(key)?.launcher;
  if (row) {
    const counts = mark === 'a' ? { admitted: row.admitted + 1 } : { refused: row.refused + 1 };
    table.set(key, { ...table.get(key), launcher: { ...row, ...counts } });
  } else if (mark === 'a') {
    anomaly(table, event, 'a dispatch was admitted for a launcher that is not registered');
  }
}

function grantUsed(
  table: Table<AuditState>,
  event: { readonly seq: number },
  grant: LedgerData['custody.dispatch.admitted.v1']['grant'],
): void {
  if (grant === 'not_checked') {
    if (table.get('total/custody.grant.issued.v1') !== undefined) {
      anomaly(table, event, 'a dispatch was admitted without a grant');
    }
    return;
  }
  const seen = table.get(`grant/${grant.checked.id}`)?.seen ?? '';
  if (!seen.includes('i')) anomaly(table, event, 'a dispatch was admitted under a grant that was never issued');
  else if (seen.includes('v')) anomaly(table, event, 'a dispatch was admitted under a grant that was revoked');
}

function onRun(
  table: Table<AuditState>,
  event: { readonly seq: number; readonly data: { readonly dispatch: string } },
  mark: 'c' | 's' | 'f',
  needs: 'a' | 'c',
  otherwise: string,
): void {
  const before = saw(table, event.data.dispatch, event.seq, mark);
  if (!before.includes(needs)) anomaly(table, event, otherwise);
  if (before.includes(mark)) {
    anomaly(table, event, mark === 'f' ? 'a second terminal event' : 'a run was claimed or started twice');
  } else if (before.includes('f')) {
    anomaly(table, event, 'a run went on after its terminal event');
  }
}

function onEffect(
  table: Table<AuditState>,
  event: { readonly seq: number; readonly data: { readonly dispatch: string } },
  otherwise: string,
): void {
  if (!saw(table, event.data.dispatch, event.seq, '').includes('c')) anomaly(table, event, otherwise);
}

function onLauncher(table: Table<AuditState>, id: string, change: (row: LauncherRow) => LauncherRow): void {
  edit(table, `launcher/${id}`, fresh, (row) => ({
    ...row,
    launcher: change(
      row.launcher ?? {
        launcher: '',
        name: '',
        public_key: '',
        must_sign: false,
        subjects: [],
        disabled: null,
        registered_at: '',
        admitted: 0,
        refused: 0,
      },
    ),
  }));
}

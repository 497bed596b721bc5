// The folds of the page and the folds of the server read the same logs and must say the same.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { applyAudit, type AuditState } from '../src/fold/audit.ts';
import { applyDispatches, type DispatchRow } from '../src/fold/dispatches.ts';
import { sorted, type LogEvent, type Table } from '../src/fold/event.ts';
import { applySessions, type SessionRow } from '../src/fold/sessions.ts';

const golden = join(import.meta.dirname, '../../projections/golden');
const cases = readdirSync(golden);
const contracts = join(import.meta.dirname, '../../contracts');
interface Shape {
  readonly 'x-type'?: string;
  readonly 'x-kind'?: string;
}
const shapes = readdirSync(contracts)
  .filter((name) => name.startsWith('ledger.v'))
  .flatMap((name) => {
    const schema: { $defs: Record<string, Shape> } = JSON.parse(readFileSync(join(contracts, name, 'schema.json'), 'utf8'));
    return Object.values(schema.$defs);
  });
const known = new Set(shapes.flatMap((s) => s['x-type'] ?? []));
const kinds = new Set(shapes.flatMap((s) => s['x-kind'] ?? []));

interface Event {
  readonly type: string;
  readonly time: string;
  readonly data: unknown;
  readonly subject?: string;
  readonly grant?: string;
}
interface Line {
  readonly seq: number;
  readonly subject: string;
  /** One event, or several of one decision. Absent: the message holds no event. */
  readonly event?: Event | readonly Event[];
}

/** The events of a golden log. What is no event on an entity's subject is skipped, as the bridge skips it. */
function events(name: string): LogEvent[] {
  return readFileSync(join(golden, name, 'log.ndjson'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)
    .filter(({ subject }) => kinds.has(subject.split('.')[1] ?? ''))
    .flatMap(({ seq, subject, event }) =>
      [event ?? []].flat().map((e) => ({ seq, type: e.type, time: e.time, data: e.data, entity: subject.split('.')[1] ?? '', ...(e.subject === undefined ? {} : { subject: e.subject }), ...(e.grant === undefined ? {} : { grant: e.grant }) })),
    );
}

function folded<R>(log: readonly LogEvent[], apply: (table: Table<R>, event: LogEvent) => void): Record<string, R> {
  const table: Table<R> = new Map();
  for (const event of log) apply(table, event);
  return Object.fromEntries(sorted(table));
}

const expected = (name: string) =>
  JSON.parse(readFileSync(join(golden, name, 'state.json'), 'utf8')) as Record<string, { rows: Record<string, unknown> }>;

test('there are golden logs', () => {
  expect(cases.length).toBeGreaterThanOrEqual(4);
});

test.each(cases)('%s: dispatches', (name) => {
  expect(folded<DispatchRow>(events(name), applyDispatches)).toEqual(expected(name)['dispatches']?.rows);
});

test.each(cases)('%s: sessions', (name) => {
  expect(folded<SessionRow>(events(name), applySessions)).toEqual(expected(name)['sessions']?.rows);
});

test.each(cases)('%s: audit', (name) => {
  const rows = folded<AuditState>(events(name), (t, e) => applyAudit(t, e, (type) => known.has(type)));
  expect(rows).toEqual(expected(name)['audit']?.rows);
});

test('a row that somebody holds is never changed under them', () => {
  const table: Table<DispatchRow> = new Map();
  const held: DispatchRow[] = [];
  for (const event of events('two-turns')) {
    applyDispatches(table, event);
    const row = table.get('d-1');
    if (row && !held.includes(row)) held.push(row);
  }
  expect(new Set(held.map((row) => row.status))).toEqual(new Set(['queued', 'starting', 'running', 'completed']));
});

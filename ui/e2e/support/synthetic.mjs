// A server's answers made up in the test, given to the real page: for sizes and states that a real log reaches only after
// months. It speaks ws.v1 and REST as the bridge does, and holds no rule of its own.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cardsRest } from './cards.mjs';
import { grantsRest } from './grants.mjs';

export const T0 = Date.UTC(2026, 10, 22, 21, 0, 0);
export const iso = (ms) => new Date(ms).toISOString();
const hex = (seed, n = 64) => {
  let x = seed * 2654435761 + 12345;
  let out = '';
  while (out.length < n) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    out += x.toString(16).padStart(8, '0');
  }
  return out.slice(0, n);
};
export const digest = (seed) => `sha256:${hex(seed)}`;

export const ME = { subject: 'u_admin', name: 'Jane Miller', admin: true, provider: 'access_key', expires_at: Date.now() + 8.64e7, launcher: 'web', version: '0.1.0' };

const ASKED = [
  'Summarise the Q3 numbers and draft an answer to Bob.',
  'Which of the open tickets mention the export problem?',
  'Compare the two supplier offers in offers/ and say which terms differ.',
  'Write the release notes for 0.4 from the commits since September.',
  'Check notes/budget.md for sums that do not add up.',
  'List the files of this workspace and say what each one is for.',
];

/** A dispatch's events, as the ledger has them, beginning at a sequence. */
export function dispatchEvents(n, { status = 'completed', seq = n * 10, at = T0 + n * 60_000, session = `s-${n}`, subject = 'u_admin', text = ASKED[n % ASKED.length], models = 2 } = {}) {
  const dispatch = `d-${hex(n + 7, 20)}`;
  const launch = { stream_seq: n + 1, launcher: 'web', event_id: `web-${hex(n, 32)}`, digest: digest(n) };
  const base = { subject, launcher: 'web', keyid: 'k-authority-2f1c' };
  const events = [];
  let t = at;
  const put = (type, data, ms) => events.push({ seq: seq++, type, time: iso((t += ms)), data, id: `c${seq}/0`, ...base });
  if (status === 'refused') {
    put('custody.dispatch.refused.v1', { dispatch, launch, reason: 'SUBJECT_NOT_ALLOWED', detail: 'launcher calendar may not act for u_bob', hint: 'an operator registers it for that person: custody launcher register calendar --subject u_bob' }, 0);
    return { dispatch, session: null, events, frames: [], text };
  }
  const start = n % 3 === 1 ? { session: { ref: session, inline: text } } : { entrypoint: { inline: text } };
  put('custody.dispatch.admitted.v1', { dispatch, session, unit: { identity: { subject, launcher: 'user:web' }, runner: 'custody-agent', workspaces: [{ id: 'finance', mode: 'ro' }, { id: 'notes', mode: 'rw' }], trigger: 'message', start }, launch, runner: { name: 'custody-agent', version: '0.1.0', image: digest(n + 100) }, grant: 'not_checked', signature: 'verified' }, 0);
  const frames = [];
  let frame = 1;
  const say = (kind, body, ms) => frames.push({ seq: frame++, at: (t += ms), kind, ...body });
  if (status !== 'queued') {
    put('custody.run.claimed.v1', { dispatch, attempt: 1, runtime: 'i-7f1e2a', image: digest(n + 100), container_name: `custody-${dispatch}-1`, spec_digest: digest(n + 200), session, resume_digest: null, deadline_at: at + 9e5 }, 4);
    put('custody.run.started.v1', { dispatch, attempt: 1, container: hex(n + 300), started_at: t + 180, phases_ms: { image: 3, folders: 9, create: 61, start: 107 } }, 190);
    say('started', { pid: 7, resumed: false }, 30);
    say('text', { text: 'I will read the numbers first.' }, 380);
    put('custody.effect.model_called.v1', { dispatch, n: 1, api: 'openai-chat', upstream: 'local', model: 'small-1', request_digest: digest(n + 1), response_digest: digest(n + 2), status: 200, outcome: 'succeeded', input_tokens: 1204, output_tokens: 88, duration_ms: 410 }, 20);
    say('tool_call', { id: 'c1', name: 'read_file', args: { path: 'finance/q3.md' } }, 5);
    say('tool_result', { id: 'c1', ok: true, text: '# Q3\nRevenue 4.2 M' }, 38);
    say('tool_call', { id: 'c2', name: 'read_file', args: { path: 'mail/118.txt' } }, 3);
    say('tool_result', { id: 'c2', ok: n % 4 !== 3, text: n % 4 === 3 ? 'error: no such file' : 'Hi, can you send me the Q3 numbers?' }, 21);
    for (let i = 2; i <= models; i++) {
      put('custody.effect.model_called.v1', { dispatch, n: i, api: 'openai-chat', upstream: 'local', model: 'small-1', request_digest: digest(n + i), response_digest: digest(n + i + 1), status: 200, outcome: 'succeeded', input_tokens: 1620, output_tokens: 310, duration_ms: 2900 }, 2950);
    }
    say('text', { text: `Revenue was **4.2 M**, up 6 % on the quarter before. Three things stand out:\n\n1. Services grew by 11 %, products by 2 %.\n2. The *north* region is below plan for the second quarter.\n3. Costs held at 3.1 M.\n\n| Region | Plan | Is |\n|---|---:|---:|\n| North | 1.4 | 1.2 |\n| South | 1.5 | 1.8 |\n\nThe draft for Bob is in \`notes/reply-bob.md\`.` }, 900);
    say('usage', { input_tokens: 2824, output_tokens: 398 }, 1);
  }
  if (status === 'stopping') put('custody.dispatch.stop_requested.v1', { dispatch, by: subject, grace_ms: 10_000 }, 800);
  if (status === 'completed' || status === 'ended') {
    say('result', { text: 'done' }, 2);
    const reason = status === 'completed' ? 'completed' : 'max_lifetime';
    say('exit', { reason, code: 0 }, 3);
    put('custody.run.finished.v1', { dispatch, attempt: 1, container: hex(n + 300), exit_code: status === 'completed' ? 0 : 111, reason, ...(status === 'ended' ? { detail: 'the run reached 900 s' } : {}), started_at: at + 200, finished_at: t + 40, session: { id: session, digest: digest(n + 400), bytes: 2048 }, output: { subject: `unit.${dispatch}.out`, frames: frames.length, bytes: 1843, digest: digest(n + 500), truncated: false }, usage: { wall_ms: t + 40 - at - 200, input_tokens: 2824, output_tokens: 398, model_calls: models } }, 60);
  }
  return { dispatch, session, events, frames, text };
}

/** The row that the projector would have. */
export function rowOf({ dispatch, events, text }) {
  const row = { dispatch, status: 'queued', subject: null, launcher: '', session: null, runner: null, image: null, what: '', decided_at: '', reason: null, detail: null, hint: null, attempt: 0, container: null, started_at: null, finished_at: null, exit_code: null, usage: null, output: null, session_digest: null, resume_digest: null, grant: null, stop_by: null, turns_max: null, follow_ups: 0, turns: null, claimed_seq: 0, terminal_events: 0, first_seq: events[0].seq, last_seq: events.at(-1).seq };
  for (const { type, time, data } of events) {
    if (type.includes('admitted')) Object.assign(row, { subject: data.unit.identity.subject, launcher: data.launch.launcher, session: data.session, runner: data.runner.name, image: data.runner.image, what: text.slice(0, 80), decided_at: time });
    if (type.includes('refused')) Object.assign(row, { status: 'refused', subject: events[0].subject ?? null, launcher: data.launch.launcher, reason: data.reason, detail: data.detail, hint: data.hint, decided_at: time });
    if (type.includes('stop_requested')) row.status = 'stopping';
    if (type.includes('claimed')) Object.assign(row, { status: 'starting', attempt: data.attempt });
    if (type.includes('started')) Object.assign(row, { status: 'running', container: data.container, started_at: data.started_at });
    if (type.includes('finished')) Object.assign(row, { status: data.reason === 'completed' ? 'completed' : 'ended', reason: data.reason, detail: data.detail ?? null, exit_code: data.exit_code, finished_at: data.finished_at, usage: data.usage, output: data.output, session_digest: data.session?.digest ?? null, terminal_events: 1 });
  }
  return row;
}

/** What REST tells of what a run changed; undefined: something else was asked. */
function changesRest(path, all) {
  const found = /^\/dispatches\/([^/]+)\/changes(\/notes)?$/.exec(path);
  const events = found && all.get(found[1])?.events;
  if (!events) return undefined;
  const ended = events.some((e) => e.type.includes('finished'));
  const change = { workspace: 'notes', mode: 'rw', base: hex(71, 40), commit: hex(72, 40), outcome: 'merged' };
  if (!found[2]) return { as_of: 812, ended, rows: ended ? [change] : [] };
  const file = (path, change, added, removed, patch, more = {}) => ({ path, change, added, removed, binary: false, patch, cut: false, ...more });
  const files = [
    file('reply-bob.md', 'added', 3, 0, '@@ -0,0 +1,3 @@\n+Hi Bob,\n+\n+revenue was 4.2 M.\n'),
    file('budget.md', 'modified', 1, 1, '@@ -4,3 +4,3 @@ ## North\n plan 1.4\n-is 1.3\n+is 1.2\n sum 2.9\n'),
    file('2026/plan.md', 'renamed', 0, 0, '', { before: 'plan.md' }),
    file('chart.png', 'modified', 0, 0, '', { binary: true }),
    file('log.txt', 'modified', 9_000, 12, '@@ -1 +1,2 @@\n one\n+two\n', { cut: true }),
  ];
  const commit = { commit: change.commit, author: 'u_admin', committer: 'web', time: iso(T0), subject: `Changes of ${found[1]}`, dispatch: found[1] };
  return { as_of: 812, change, diff: { commit, parent: hex(73, 40), files, total: 7, cut: true } };
}

/** A row of the audit tail. */
export function auditRow(n) {
  const kinds = [['dispatch', 'admitted', 's-1 runs custody-agent on finance:ro notes:rw', 'agent:run'], ['run', 'claimed', 'attempt 1 by i-7f1e2a'], ['run', 'started', 'container 60aedaa2ceb2'], ['effect', 'model_called', 'small-1 at local, 1204+88 tokens', 'model:call'], ['run', 'finished', 'completed after 4612 ms']];
  const [kind, verb, object, scope] = kinds[n % 5];
  const bad = n % 41 === 40;
  return { schema: 'audit.v1', seq: n, time: iso(T0 + n * 731), kind: bad ? 'dispatch' : kind, type: bad ? 'custody.dispatch.refused.v1' : `custody.${kind}.${verb}.v1`, outcome: bad ? 'refused' : 'ok', dispatch: `d-${hex(Math.floor(n / 5) + 7, 20)}`, ...(bad ? {} : { subject: n % 3 ? 'u_admin' : 'u_omar' }), launcher: n % 7 ? 'web' : 'cli', ...(scope && !bad ? { scope } : {}), keyid: 'k-authority-2f1c', object: bad ? 'SUBJECT_NOT_ALLOWED: launcher calendar may not act for u_bob' : object, id: `c${n}/0` };
}

export const RUNNER = {
  name: 'custody-agent', version: '0.1.0', image: digest(5),
  document: { name: 'custody-agent', version: '0.1.0', image: digest(5), argv: ['/usr/local/bin/custody-agent'], env: {}, stdin: 'none', stream: { format: 'jsonl', map: [] }, session: { path: '{{session}}', resume_argv: [], id_from: 'path' }, inference: 'openai-chat', files: [], licence: 'Apache-2.0' },
};

// The contracts of this repository, as the binary serves them.
const folder = join(import.meta.dirname, '../../../contracts');
const CONTRACTS = readdirSync(folder).filter((name) => /\.v\d+$/.test(name)).sort();
function contractOf(name) {
  const schema = JSON.parse(readFileSync(join(folder, name, 'schema.json'), 'utf8'));
  return { contract: { name, digest: digest(1), seal: 'sealed', description: schema.description, shapes: schema['x-shapes'] }, readme: readFileSync(join(folder, name, 'README.md'), 'utf8'), schema };
}

/** An installation in memory. */
export function installation({ dispatches = [], audit = [], grants = [], cards = [], head = 0 } = {}) {
  const all = new Map(dispatches.map((d) => [d.dispatch, d]));
  const rows = () => [...all.values()].map(rowOf).sort((a, b) => b.first_seq - a.first_seq);
  const sessionsOf = () => {
    const out = new Map();
    for (const row of rows().reverse()) {
      if (!row.session) continue;
      const s = out.get(row.session) ?? { session: row.session, subject: row.subject, runner: row.runner, turns: [], turn_count: 0, digest: null, bytes: 0, agent_session: null, began_at: row.decided_at, last_seq: 0 };
      s.turns.push({ dispatch: row.dispatch, container: row.container, outcome: row.reason, resumed_from: null, left: row.session_digest });
      s.turn_count++;
      s.last_seq = row.last_seq;
      out.set(row.session, s);
    }
    return [...out.values()];
  };
  const at = () => Math.max(head, ...[...all.values()].map((d) => d.events.at(-1).seq), audit.at(-1)?.seq ?? 0, 1);
  return {
    all,
    at,
    /** The snapshot of a topic; null: there is no such thing. */
    snapshot(topic) {
      const [word, id] = topic.split('/');
      const one = all.get(id);
      switch (word) {
        case 'dispatches': return { rows: rows().slice(0, 200) };
        case 'sessions': return { rows: sessionsOf().slice(0, 200) };
        case 'session': {
          const row = sessionsOf().find((s) => s.session === id);
          return row ? { row, dispatches: rows().filter((r) => r.session === id).reverse() } : null;
        }
        case 'dispatch': return one ? { row: rowOf(one), events: one.events } : null;
        case 'output': return one ? { dispatch: id, attempt: 1, frames: one.frames } : null;
        case 'audit': return { rows: audit.slice(-200) };
        case 'health': return HEALTH;
        default: return null;
      }
    },
    rest(method, path, query) {
      if (path === '/me' || path === '/session') return ME;
      if (path === '/runners') return [RUNNER];
      if (path === '/consent') return { state: 'given', grant: 'g-0b55' };
      if (path.startsWith('/inbox')) return cardsRest(method, path, query, cards);
      if (path.startsWith('/grants') || path === '/launchers') return grantsRest(method, path, grants);
      const changes = changesRest(path, all);
      if (changes) return changes;
      if (path === '/audit') {
        const before = Number(query.get('before_seq') ?? at() + 1);
        const limit = Number(query.get('limit') ?? 100);
        const older = audit.filter((r) => r.seq < before);
        const page = older.slice(-limit);
        return { head: at(), rows: page.slice().reverse(), next_before_seq: older.length > page.length ? page[0].seq : null };
      }
      if (path === '/contracts') return CONTRACTS.map((name) => contractOf(name).contract);
      if (path.startsWith('/contracts/') && CONTRACTS.includes(path.slice(11))) return contractOf(path.slice(11));
      if (path === '/openapi.json') return { info: { title: 'Custody', version: '0.1.0', description: 'What the web UI and scripts ask.' }, tags: [{ name: 'audit', description: 'The log as evidence' }], paths: { '/api/v1/audit': { get: { summary: 'Rows of the audit tail.', tags: ['audit'], parameters: [{ name: 'limit', in: 'query', description: 'At most so many rows.' }], responses: { 200: {}, 401: {} } } } } };
      if (path === '/audit/verify') return { result: 'pass', head: hex(99), messages: at(), signatures: at(), checkpoints: 12, covered: at() - 1, keys: { 'k-authority-2f1c': at() }, root_key: 'k-authority-2f1c', code: null, message: null, seq: null, took_ms: 84 };
      return undefined;
    },
  };
}

export const HEALTH = {
  version: '0.1.0', contracts: digest(1), connections: 2,
  projections: { status: 'ok', rows: [{ name: 'audit', seq: 812, rows: 140, lag: 0 }, { name: 'dispatches', seq: 812, rows: 64, lag: 0 }, { name: 'sessions', seq: 812, rows: 31, lag: 0 }] },
  nats: { status: 'ok', server: '2.15.1', streams: [{ name: 'LEDGER', messages: 812, bytes: 1048576 }, { name: 'OUTPUT', messages: 4210, bytes: 8388608 }] },
  engine: { status: 'ok', version: '26.1', runtime: 'runc' },
};

/** Answers a context's requests and sockets out of an installation; `told` says what becomes of a command. What it gives back
 *  reaches the open sockets. */
export async function answer(context, model, { hold = () => false, fail = () => false, told = () => ({ ok: true }) } = {}) {
  const sockets = new Set();
  let down = false;
  await context.route('**/api/v1/**', (route) => {
    const request = route.request();
    const url = new URL(request.url());
    const path = url.pathname.replace('/api/v1', '');
    if (hold(path)) return undefined;
    if (fail(path)) return route.fulfill({ status: 503, json: { type: '/docs/errors#UNAVAILABLE', title: 'A part of the installation does not answer', status: 503, code: 'UNAVAILABLE', detail: 'the projector is not running' } });
    const value = model.rest(request.method(), path, url.searchParams);
    return value === undefined ? route.fallback() : route.fulfill({ json: value });
  });
  await context.routeWebSocket('**/api/v1/ws', (ws) => {
    if (down) return ws.close();
    const subs = new Map();
    const send = (frame) => ws.send(JSON.stringify(frame));
    const socket = { ws, subs, send };
    sockets.add(socket);
    ws.onClose(() => sockets.delete(socket));
    ws.onMessage((text) => {
      const frame = JSON.parse(text);
      if (frame.t === 'unsub') subs.delete(frame.id);
      if (frame.t === 'cmd') {
        const { ok, code } = told(frame);
        send(ok ? { t: 'ack', id: frame.id, seq: model.at() + 1, dispatch: 'd-new' } : { t: 'nack', id: frame.id, code });
      }
      if (frame.t !== 'sub' || hold(frame.topic)) return;
      const state = model.snapshot(frame.topic);
      if (state === null) return send({ t: 'nack', id: frame.id, code: 'NOT_FOUND', detail: 'Not found or not yours' });
      subs.set(frame.id, { topic: frame.topic, cursor: model.at() });
      // A frame has at most 1 MiB: what does not fit comes as events, as from the bridge.
      const rest = state.frames?.slice(2_000) ?? [];
      if (rest.length > 0) state.frames = state.frames.slice(0, 2_000);
      send({ t: 'snap', id: frame.id, seq: model.at(), state });
      for (let i = 0; i < rest.length; i += 1_000) {
        const frames = rest.slice(i, i + 1_000);
        const seq = model.at() + i + 1;
        const prev = subs.get(frame.id).cursor;
        subs.get(frame.id).cursor = seq;
        send({ t: 'ev', id: frame.id, seq, prev, events: [{ seq, type: 'custody.output.chunk.v1', time: iso(Date.now()), data: { dispatch: state.dispatch, attempt: 1, from: frames[0].seq, to: frames.at(-1).seq, frames } }] });
      }
      send({ t: 'caught', id: frame.id, seq: subs.get(frame.id).cursor });
    });
    send({ t: 'hello', now: Date.now(), head: model.at(), contracts: digest(1), version: '0.1.0', hb_ms: 10_000 });
  });
  return {
    sockets,
    /** Sends events of a topic to everybody who follows it. */
    push(topic, seq, events) {
      for (const { subs, send } of sockets) {
        for (const [id, sub] of subs) {
          if (sub.topic !== topic) continue;
          send({ t: 'ev', id, seq, prev: sub.cursor, events });
          sub.cursor = seq;
        }
      }
    },
    beat: () => sockets.forEach(({ send }) => send({ t: 'hb', now: Date.now(), head: model.at() })),
    /** Ends every connection, and takes no new one. */
    cut() {
      down = true;
      sockets.forEach(({ ws }) => ws.close());
    },
    /** Takes connections again. */
    mend: () => void (down = false),
  };
}

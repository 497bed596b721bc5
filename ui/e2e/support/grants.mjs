// Grants, made up: one that is valid, one that ends soon, one that was asked for, one that was taken back, one that ended.
const DAY = 86_400_000;
const at = (ms) => new Date(ms).toISOString();

function terms(id, now, { launcher, subject = 'u_admin', tools, workspaces, days, since = 3 }) {
  return {
    id, subject, launcher, launcher_key: 'UCVEOP32X5SP3YLV6FSVHH4NTTB2G6RK2YJZM3RUGOOSEP44USS2354T', tools, workspaces,
    trigger: { on: ['message', 'event'] }, constraints: [{ on: 'recipient', argument: '/to', allow: ['*@acme.test'] }],
    limits: { dispatches: 20, window_ms: DAY }, approval: { rule: 'irreversible' },
    not_before: at(now - since * DAY), expires: at(now + days * DAY),
  };
}

const words = (t) =>
  [
    `${t.subject} lets ${t.launcher} (key ${t.launcher_key}) run agents in their name, from ${t.not_before} to ${t.expires}.`,
    'Begun by: a message, an event (untrusted input).',
    `Workspaces: ${t.workspaces.map((w) => `${w.id} as ${w.mode}`).join(', ')}.`,
    `Tools: ${t.tools.join(', ') || 'none'}.`,
    'In every call, recipient at /to: one of *@acme.test.',
    'At most 20 dispatches in 86400 s.',
    'Approval: calls of gated tools and whatever cannot be undone wait for a person (u_admin). It may not be passed on, and can be revoked at any time.',
  ].join('\n');

export function grants(now) {
  const make = (grant, status, shape, more = {}) => {
    const t = terms(grant, now, shape);
    return {
      grant, status, subject: t.subject, launcher: t.launcher, terms: t,
      consent: status === 'requested' ? null : { method: 'oidc', at: at(now - 3 * DAY), statement_digest: `sha256:${'4be1'.repeat(16)}` },
      parent: null, by: t.subject, why: null, issued_at: status === 'requested' ? null : at(now - 3 * DAY), issued_seq: status === 'requested' ? null : 120,
      revoked_at: null, revoked_by: null, revoked_why: null, uses: 14, last_used_at: at(now - 2 * 3_600_000), last_dispatch: 'd-7f3a', cost_micros: 1_204_000, last_seq: 120, ...more,
    };
  };
  return [
    make('g-91c2', 'issued', { launcher: 'integration:calendar', tools: ['calendar.read', 'mail.send'], workspaces: [{ id: 'notes', mode: 'propose' }, { id: 'finance', mode: 'ro' }], days: 41 }),
    make('g-12aa', 'issued', { launcher: 'schedule:weekly-brief', tools: ['workspace_read'], workspaces: [{ id: 'notes', mode: 'ro' }], days: 6 }),
    make('g-77d0', 'requested', { launcher: 'integration:gmail-watch', tools: ['mail.read'], workspaces: [{ id: 'mail', mode: 'ro' }], days: 30 }, { by: 'u_omar', why: 'Answers to invoices should wait as drafts when we come in.', uses: 0, last_used_at: null, last_dispatch: null, cost_micros: 0 }),
    make('g-3f10', 'revoked', { launcher: 'integration:crm-sync', tools: [], workspaces: [{ id: 'crm', mode: 'rw' }], days: 12 }, { revoked_at: at(now - DAY), revoked_by: 'u_admin', revoked_why: 'It wrote into the wrong accounts.' }),
    make('g-0b55', 'issued', { launcher: 'user:laptop', tools: ['workspace_read'], workspaces: [{ id: 'default', mode: 'rw' }], days: -2, since: 92 }),
  ];
}

/** What REST answers about them; undefined: something else was asked. */
export function grantsRest(method, path, list) {
  if (method === 'GET' && path === '/grants') return { as_of: 812, rows: list };
  if (method === 'GET' && path === '/launchers') return [{ launcher: 'calendar', name: 'Calendar' }, { launcher: 'gmail-watch', name: 'Mail watch' }];
  if (method === 'POST' && path === '/grants/draft') return { terms: list[0].terms, statement: words(list[0].terms), statement_digest: `sha256:${'9be0'.repeat(16)}` };
  const id = /^\/grants\/([^/]+)$/.exec(path)?.[1];
  const row = list.find((r) => r.grant === id);
  return method === 'GET' && row ? { as_of: 812, row, statement: words(row.terms), statement_digest: `sha256:${'9be0'.repeat(16)}` } : undefined;
}

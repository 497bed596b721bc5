// Cards, made up: one that cannot be undone, one that changes something, and three that were decided.
const digest = (word) => `sha256:${word.repeat(16)}`;
const ARGS = {
  'd-7f3a-t2': { body: 'Hi Bob,\n\nrevenue was 4.2 M, up 6 % on the quarter before.\n\nJane', subject: 'Re: Q3 numbers', to: 'bob@acme.test' },
  'd-80b1-t1': { path: 'board-prep.md', text: '# Board prep\n\n* numbers\n* hiring\n' },
};

export function cards(now) {
  const make = (card, more) => ({
    card, dispatch: card.split('-t')[0], subject: 'u_admin', launcher: 'integration:calendar', approvers: ['u_admin'], tool: 'mail.send', scope: 'mail:send', effect: 'irreversible',
    input_trust: 'untrusted', rule: 'forbid-irreversible-untrusted', version: 1, args_digest: digest('4be1'), state: 'waiting', open: true, until: null, expires_at: now + 28 * 60_000,
    by: null, reason: null, opened_at: new Date(now - 2 * 60_000).toISOString(), first_seq: 140, last_seq: 140, ...more,
  });
  const done = { open: false, expires_at: now - 60_000 };
  return [
    make('d-7f3a-t2', {}),
    make('d-80b1-t1', { tool: 'workspace_write', scope: 'workspace:write', effect: 'write', input_trust: 'trusted', rule: 'gate', version: 2, args_digest: digest('9be0'), launcher: 'web', expires_at: now + 5 * 3_600_000 }),
    make('d-7a01-t1', { ...done, state: 'succeeded', by: 'u_omar' }),
    make('d-79aa-t3', { ...done, state: 'rejected', by: 'u_admin', reason: 'Wrong recipient' }),
    make('d-7990-t1', { ...done, state: 'in_doubt', by: 'u_admin', reason: 'the gateway was restarted before the answer came' }),
  ];
}

/** What REST answers about them; undefined: something else was asked. */
export function cardsRest(method, path, query, list) {
  if (method !== 'GET') return undefined;
  if (path === '/inbox') return { as_of: 812, rows: query.get('state') === 'all' ? list : list.filter((c) => c.open) };
  const row = list.find((c) => path === `/inbox/${c.card}`);
  if (!row) return undefined;
  const args = ARGS[row.card] ?? { to: 'x@acme.test' };
  return { as_of: 812, row, args, text: JSON.stringify(args, null, 2) };
}

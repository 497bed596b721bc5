// One dispatch as spans: who let it happen, how it started, what it did, how it ended. Ledger events give the frame, the
// output's frames give what the agent did inside. Pure; an open span has no end and grows with the reader's clock.
import type { LedgerEvent, LogEvent } from './event.ts';
import type { Talk } from './talk.ts';

export type SpanKind = 'dispatch' | 'decision' | 'wait' | 'box' | 'agent' | 'model' | 'tool' | 'point';
export type SpanState = 'ok' | 'failed' | 'refused' | 'open' | 'asked';

export interface Span {
  readonly id: string;
  readonly parent: string | null;
  readonly kind: SpanKind;
  readonly label: string;
  readonly start: number;
  /** Null: it is not over. */
  readonly end: number | null;
  readonly state: SpanState;
  /** Ledger sequence, where an event of the ledger says it. */
  readonly seq: number | null;
  readonly facts: readonly (readonly [string, string])[];
  readonly detail: string | null;
}

const ms = (time: string): number => Date.parse(time) || 0;

/** Spans in the order of a tree: each parent before its children, children by their start. */
export function timeline(events: readonly LogEvent[], talk: Talk): Span[] {
  const spans: Span[] = [];
  const first = events[0];
  if (!first) return spans;
  let root: Span = span('dispatch', null, 'dispatch', 'Dispatch', ms(first.time), null, 'open', null);
  const open: { queued: Span | null; box: Span | null; agent: Span | null } = { queued: null, box: null, agent: null };
  const models: Span[] = [];
  const calls = new Map<number, Span>();
  const points: Span[] = [];
  for (const raw of events) {
    const event = raw as LedgerEvent;
    const at = ms(event.time);
    switch (event.type) {
      case 'custody.dispatch.admitted.v1':
        points.push(
          span('admitted', 'dispatch', 'decision', `Admitted: ${event.data.runner.name}`, at, at, 'ok', event.seq, [
            ['For', event.data.unit.identity.subject],
            ['Through', event.data.launch.launcher],
            ['Workspaces', event.data.unit.workspaces.map((w) => `${w.id}:${w.mode}`).join(', ')],
            ['Grant', event.data.grant === 'not_checked' ? 'none: from before there were grants' : event.data.grant.checked.id],
          ]),
        );
        open.queued = span('queued', 'dispatch', 'wait', 'Waiting for a runtime', at, null, 'open', event.seq);
        break;
      case 'custody.dispatch.refused.v1':
        points.push(
          span('refused', 'dispatch', 'decision', `Refused: ${event.data.reason}`, at, at, 'refused', event.seq, [
            ['Rule', event.data.reason],
            ['Through', event.data.launch.launcher],
            ['Next', event.data.hint],
          ], event.data.detail),
        );
        root = { ...root, end: at, state: 'refused' };
        break;
      case 'custody.dispatch.stop_requested.v1':
        points.push(
          span(`stop-${event.seq}`, 'dispatch', 'point', 'Stop requested', at, at, 'asked', event.seq, [
            ['By', event.data.by],
            ['Grace', `${event.data.grace_ms} ms`],
          ]),
        );
        break;
      case 'custody.run.claimed.v1':
        open.queued = over(open.queued, at, 'ok');
        open.box = span('box', 'dispatch', 'box', 'Start the container', at, null, 'open', event.seq, [
          ['Runtime', event.data.runtime],
          ['Attempt', String(event.data.attempt)],
          ['Name', event.data.container_name],
          ['Resumes from', event.data.resume_digest ?? 'nothing: a first turn'],
        ]);
        break;
      case 'custody.run.started.v1': {
        const { phases_ms, container } = event.data;
        const box = over(open.box, event.data.started_at, 'ok');
        if (box) {
          open.box = {
            ...box,
            facts: [...box.facts, ['Container', container], ...Object.entries(phases_ms).map(([k, v]) => [k, `${v} ms`] as const)],
          };
        }
        open.agent = span('agent', 'dispatch', 'agent', 'Agent', event.data.started_at, null, 'open', event.seq, [['Container', container]]);
        break;
      }
      case 'custody.run.finished.v1': {
        const e = event.data;
        const ok = e.reason === 'completed';
        const state = ok ? 'ok' : 'failed';
        open.queued = over(open.queued, at, state);
        open.box = over(open.box, e.finished_at, state, e.detail);
        open.agent = over(open.agent, e.finished_at, state);
        points.push(
          span('finished', 'dispatch', 'decision', `Ended: ${e.reason}`, at, at, state, event.seq, [
            ['Reason', e.reason],
            ...(e.exit_code === undefined ? [] : [['Exit code', String(e.exit_code)] as const]),
            ['Tokens', `${e.usage.input_tokens} in, ${e.usage.output_tokens} out`],
            ...(e.session ? [['Session file', e.session.digest] as const] : []),
          ], e.detail ?? null),
        );
        root = { ...root, end: at, state };
        break;
      }
      case 'custody.effect.model_called.v1': {
        const e = event.data;
        models.push(
          span(`model-${e.n}`, 'agent', 'model', `Model ${e.model}`, at - e.duration_ms, at, e.outcome === 'succeeded' ? 'ok' : 'failed', event.seq, [
            ['Upstream', e.upstream],
            ['Tokens', `${e.input_tokens} in, ${e.output_tokens} out`],
            ['Status', String(e.status)],
            ['Request', e.request_digest],
            ['Response', e.response_digest],
          ], e.detail ?? null),
        );
        break;
      }
      case 'custody.effect.tool_intended.v1': {
        const e = event.data;
        calls.set(
          e.n,
          span(`effect-${e.n}`, 'agent', 'tool', e.tool, at, null, 'open', event.seq, [
            ['Scope', e.scope],
            ['Effect', e.effect],
            ['Input', e.input_trust],
            ['Arguments', e.args_digest],
          ]),
        );
        break;
      }
      case 'custody.effect.tool_finished.v1': {
        const e = event.data;
        const intended = calls.get(e.n);
        if (intended) {
          const facts = [...intended.facts, ['Outcome', e.phase] as const, ...(e.result_digest === undefined ? [] : [['Answer', e.result_digest] as const])];
          calls.set(e.n, { ...intended, end: at, state: e.phase === 'succeeded' ? 'ok' : 'failed', facts, detail: e.reason ?? null });
        }
        break;
      }
      case 'custody.effect.tool_refused.v1': {
        const e = event.data;
        const times = e.count > 1 ? `, ${e.count} times` : '';
        calls.set(e.n, span(`effect-${e.n}`, 'agent', 'tool', `${e.tool ?? 'a tool'} refused: ${e.reason}${times}`, at, at, 'refused', event.seq, [['Rule', e.reason]], e.detail));
        break;
      }
      case 'custody.effect.tool_awaiting.v1': {
        const e = event.data;
        calls.set(
          e.n,
          span(`effect-${e.n}`, 'agent', 'tool', `${e.tool} waits for a person`, at, null, 'asked', event.seq, [
            ['Scope', e.scope],
            ['Effect', e.effect],
            ['Input', e.input_trust],
            ['Rule', e.policy.rule],
            ['Arguments', e.args_digest],
          ]),
        );
        break;
      }
      case 'custody.effect.budget_warned.v1':
      case 'custody.effect.budget_exhausted.v1': {
        const e = event.data;
        const out = event.type === 'custody.effect.budget_exhausted.v1';
        points.push(
          span(`budget-${event.seq}`, 'dispatch', 'point', `Budget ${out ? 'used up' : 'nearly used up'}`, at, at, out ? 'refused' : 'asked', event.seq, [
            ['Whose', e.scope],
            ['Used', `${e.used} of ${e.limit} ${e.measure}`],
          ]),
        );
        break;
      }
      case 'custody.token.refused.v1': {
        const e = event.data;
        const times = e.count > 1 ? `, ${e.count} times` : '';
        points.push(
          span(`token-${event.seq}`, 'dispatch', 'point', `Token refused: ${e.reason}${times}`, at, at, 'refused', event.seq, [
            ['Rule', e.reason],
            ...(e.aud === undefined ? [] : [['For', e.aud] as const]),
          ], e.detail),
        );
        break;
      }
      default:
    }
  }
  const tools = talk.blocks.flatMap((b) =>
    b.kind !== 'tool'
      ? []
      : [
          span(`tool-${b.key}`, 'agent', 'tool', `${b.name} ${target(b.args)}`.trim(), b.at, b.ended_at ?? (root.end === null ? null : b.at), b.ok === null ? (root.end === null ? 'open' : 'failed') : b.ok ? 'ok' : 'failed', null, [
            ['Arguments', JSON.stringify(b.args)],
          ], b.result),
        ],
  );
  const troubles = talk.blocks.flatMap((b) =>
    b.kind !== 'trouble' ? [] : [span(`trouble-${b.key}`, 'agent', 'point', `Error ${b.code}`, talk.last_at ?? root.start, talk.last_at ?? root.start, 'failed', null, [], b.text)],
  );
  // What nothing contains hangs on the root, so that a lost event hides nothing.
  const inner = [...models, ...calls.values(), ...tools, ...troubles].map((s) => (open.agent ? s : { ...s, parent: 'dispatch' }));
  const top = [...points, ...[open.queued, open.box, open.agent].filter((s) => s !== null)].sort(byStart);
  const out = [root];
  for (const s of [...top, ...(open.agent ? [] : inner)].sort(byStart)) {
    out.push(s);
    if (s.id === 'agent') out.push(...inner.sort(byStart));
  }
  return out;
}

/** Ends a span that is still open. */
const over = (s: Span | null, end: number, state: SpanState, detail?: string): Span | null =>
  s?.end === null ? { ...s, end, state, detail: detail ?? s.detail } : s;

const byStart = (a: Span, b: Span): number => a.start - b.start || (a.seq ?? 0) - (b.seq ?? 0);

function span(
  id: string,
  parent: string | null,
  kind: SpanKind,
  label: string,
  start: number,
  end: number | null,
  state: SpanState,
  seq: number | null,
  facts: readonly (readonly [string, string])[] = [],
  detail: string | null = null,
): Span {
  return { id, parent, kind, label, start, end, state, seq, facts, detail };
}

/** What a tool is used on: the first short text among its arguments. */
export function target(args: Readonly<Record<string, unknown>>): string {
  for (const name of ['path', 'file', 'url', 'to', 'query', 'command', 'name', 'id']) {
    const value = args[name];
    if (typeof value === 'string' && value !== '') return cut(value);
  }
  const any = Object.values(args).find((v) => typeof v === 'string' && v !== '');
  return typeof any === 'string' ? cut(any) : '';
}

const cut = (text: string): string => {
  const line = text.split('\n', 1)[0] ?? '';
  return line.length > 80 ? `${line.slice(0, 79)}…` : line;
};

/** A stretch of the axis: time, and the part of the width that it gets. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
  readonly left: number;
  readonly right: number;
  /** Set on a fold: why nothing was recorded meanwhile. */
  readonly folded: string | null;
}

/** Below this a gap is drawn as it is. */
export const GAP_MIN_MS = 2_000;
const GAP_WIDTH = 0.05;

/** Lays time on the unit width. With `fold`, stretches in which nothing is recorded shrink to a labelled break. */
export function axis(spans: readonly Span[], from: number, to: number, fold: boolean): Stretch[] {
  const length = Math.max(1, to - from);
  const busy = spans
    .filter((s) => s.kind !== 'dispatch' && s.kind !== 'agent')
    .map((s) => [Math.max(from, s.start), Math.min(to, s.end ?? to)] as const)
    .filter(([a, b]) => b >= a)
    .sort((a, b) => a[0] - b[0]);
  const gaps: [number, number][] = [];
  let end = from;
  for (const [a, b] of busy) {
    if (a - end > Math.max(GAP_MIN_MS, length * 0.15)) gaps.push([end, a]);
    end = Math.max(end, b);
  }
  if (to - end > Math.max(GAP_MIN_MS, length * 0.15)) gaps.push([end, to]);
  if (!fold || gaps.length === 0) return [{ from, to: from + length, left: 0, right: 1, folded: null }];
  const hidden = gaps.reduce((sum, [a, b]) => sum + b - a, 0);
  const scale = (1 - gaps.length * GAP_WIDTH) / Math.max(1, length - hidden);
  const out: Stretch[] = [];
  let left = 0;
  let at = from;
  const put = (until: number, width: number, folded: string | null) => {
    if (until <= at) return;
    out.push({ from: at, to: until, left, right: left + width, folded });
    left += width;
    at = until;
  };
  for (const [a, b] of gaps) {
    put(a, (a - at) * scale, null);
    put(b, GAP_WIDTH, 'nothing recorded');
  }
  put(from + length, (from + length - at) * scale, null);
  return out;
}

/** Where a moment is on the width, 0 to 1. */
export function place(stretches: readonly Stretch[], time: number): number {
  for (const s of stretches) {
    if (time <= s.to) return time <= s.from ? s.left : s.left + ((time - s.from) / (s.to - s.from)) * (s.right - s.left);
  }
  return 1;
}

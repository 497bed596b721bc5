// The bridge's rules against a scripted server: cursors, gaps, heartbeats, back-off, commands sent once.
import { beforeEach, describe, expect, test } from 'vitest';
import { backoff, RETRY_FIRST_MS, RETRY_MAX_MS } from '../src/bridge/backoff.ts';
import type { Answer } from '../src/bridge/outbox.ts';
import { connection, type Connection, type Handlers, type Link, type Listener } from '../src/bridge/connection.ts';
import type { ws } from '../src/contracts/index.ts';

const HELLO: ws.Hello = { t: 'hello', now: 1_000, head: 50, contracts: `sha256:${'0'.repeat(64)}`, version: '0.1.0', hb_ms: 10_000 };

/** A server that does what the test says, and a clock that the test moves. */
function scripted(contracts: string | null = null) {
  let now = 0;
  let timers: { at: number; run: () => void }[] = [];
  const sockets: { handlers: Handlers; sent: ws.ClientFrame[]; closed: boolean }[] = [];
  const links: Link[] = [];
  const answers: [string, Answer][] = [];
  let online = true;
  const it: Connection = connection({
    contracts,
    world: {
      now: () => now,
      random: () => 0.5,
      online: () => online,
      after(ms, run) {
        const timer = { at: now + ms, run };
        timers.push(timer);
        return () => {
          timers = timers.filter((t) => t !== timer);
        };
      },
      connect(handlers) {
        const socket = { handlers, sent: [] as ws.ClientFrame[], closed: false };
        sockets.push(socket);
        return {
          send: (text) => void socket.sent.push(JSON.parse(text) as ws.ClientFrame),
          close: () => {
            socket.closed = true;
          },
        };
      },
    },
    onLink: (link) => void links.push(link),
    onHello: () => {},
    onHead: () => {},
    onAnswer: (id, answer) => void answers.push([id, answer]),
  });
  return {
    it,
    links,
    answers,
    sockets,
    get last() {
      return sockets[sockets.length - 1]!;
    },
    say(...frames: ws.ServerFrame[]) {
      for (const frame of frames) this.last.handlers.message(JSON.stringify(frame));
    },
    setOnline(value: boolean) {
      online = value;
    },
    pass(ms: number) {
      const until = now + ms;
      for (;;) {
        const next = timers.filter((t) => t.at <= until).sort((a, b) => a.at - b.at)[0];
        if (!next) break;
        timers = timers.filter((t) => t !== next);
        now = next.at;
        next.run();
      }
      now = until;
    },
  };
}

function listener() {
  const heard: unknown[] = [];
  const it: Listener = {
    snap: (seq, state) => void heard.push(['snap', seq, state]),
    events: (seq, events) => void heard.push(['events', seq, events.map((e) => e.seq)]),
    caught: (seq) => void heard.push(['caught', seq]),
    lag: (behind) => void heard.push(['lag', behind]),
    gone: (reason) => void heard.push(['gone', reason]),
    refused: (code) => void heard.push(['refused', code]),
    stale: () => void heard.push(['stale']),
  };
  return { it, heard };
}

const ev = (id: number, prev: number, ...seqs: number[]): ws.Ev => ({
  t: 'ev',
  id,
  prev,
  seq: seqs[seqs.length - 1]!,
  events: seqs.map((seq) => ({ seq, type: 'custody.run.started.v1', time: '2026-01-01T00:00:00.000Z', data: {} })),
});
const stop = (id: string): ws.Cmd => ({ t: 'cmd', id, name: 'dispatch.stop', args: { dispatch: 'd-1' } });

let server: ReturnType<typeof scripted>;
beforeEach(() => {
  server = scripted();
});

describe('a topic', () => {
  test('is asked for after hello, gets a snapshot and then what follows it', () => {
    const { it, heard } = listener();
    server.it.follow('audit', it);
    expect(server.last.sent).toEqual([]);
    server.say(HELLO);
    expect(server.last.sent).toEqual([{ t: 'sub', id: 1, topic: 'audit' }]);
    server.say({ t: 'snap', id: 1, seq: 10, state: { a: 1 } }, ev(1, 10, 12, 15), { t: 'caught', id: 1, seq: 15 });
    expect(heard).toEqual([['snap', 10, { a: 1 }], ['events', 15, [12, 15]], ['caught', 15]]);
    expect(server.links.at(-1)).toEqual({ is: 'live' });
  });

  test('with another predecessor than the cursor is asked for again from the cursor, and nothing of the frame is used', () => {
    const { it, heard } = listener();
    server.it.follow('audit', it);
    server.say(HELLO, { t: 'snap', id: 1, seq: 10, state: {} }, ev(1, 11, 12));
    expect(heard).toHaveLength(1);
    expect(server.last.sent.slice(1)).toEqual([{ t: 'unsub', id: 1 }, { t: 'sub', id: 2, topic: 'audit', after: 10 }]);
    server.say(ev(1, 10, 11), ev(2, 10, 11, 12));
    expect(heard.slice(1)).toEqual([['events', 12, [11, 12]]]);
  });

  test('goes on at its cursor after the connection was lost', () => {
    const { it, heard } = listener();
    server.it.follow('audit', it);
    server.say(HELLO, { t: 'snap', id: 1, seq: 10, state: {} }, ev(1, 10, 20), { t: 'caught', id: 1, seq: 20 });
    server.last.handlers.close();
    expect(heard.at(-1)).toEqual(['stale']);
    expect(server.links.at(-1)).toMatchObject({ is: 'reconnecting' });
    server.pass(20_000);
    expect(server.sockets.length).toBeGreaterThan(1);
    server.say(HELLO);
    expect(server.last.sent.at(-1)).toMatchObject({ t: 'sub', topic: 'audit', after: 20 });
    expect(server.links.at(-1)).toMatchObject({ is: 'catching_up' });
  });

  test('whose cursor is gone takes the snapshot that follows', () => {
    const { it, heard } = listener();
    server.it.follow('output/d-1', it);
    server.say(HELLO, { t: 'snap', id: 1, seq: 10, state: {} }, { t: 'gone', id: 1, reason: 'retention' });
    server.say({ t: 'snap', id: 1, seq: 90, state: {} }, ev(1, 90, 91));
    expect(heard.slice(1)).toEqual([['gone', 'retention'], ['snap', 90, {}], ['events', 91, [91]]]);
  });

  test.each(['forbidden', 'unknown'] as const)('that is %s is closed and not asked for again', (reason) => {
    const { it, heard } = listener();
    server.it.follow('dispatch/d-1', it);
    server.say(HELLO, { t: 'gone', id: 1, reason });
    expect(heard).toEqual([['gone', reason]]);
    expect(server.links.at(-1)).toEqual({ is: 'live' });
    server.last.handlers.close();
    server.pass(20_000);
    server.say(HELLO);
    expect(server.last.sent).toEqual([]);
  });

  test('that nobody follows any more is not heard', () => {
    const { it, heard } = listener();
    const leave = server.it.follow('audit', it);
    server.say(HELLO);
    leave();
    server.say({ t: 'snap', id: 1, seq: 1, state: {} });
    expect(heard).toEqual([]);
    expect(server.last.sent.at(-1)).toEqual({ t: 'unsub', id: 1 });
  });

  test('that lags says by how much until it has caught up', () => {
    const { it } = listener();
    server.it.follow('audit', it);
    server.say(HELLO, { t: 'snap', id: 1, seq: 1, state: {} }, { t: 'lag', id: 1, behind: 1_204 });
    expect(server.links.at(-1)).toEqual({ is: 'catching_up', behind: 1_204 });
    server.say(ev(1, 1, 2, 3));
    expect(server.links.at(-1)).toEqual({ is: 'catching_up', behind: 1_202 });
    server.say({ t: 'caught', id: 1, seq: 3 });
    expect(server.links.at(-1)).toEqual({ is: 'live' });
  });
});

describe('the connection', () => {
  test('is lost after 2.5 heartbeats without a frame, although the socket is open', () => {
    server.say(HELLO);
    server.pass(24_900);
    expect(server.links.at(-1)).toEqual({ is: 'live' });
    server.pass(200);
    expect(server.links.at(-1)).toMatchObject({ is: 'reconnecting' });
    expect(server.sockets[0]?.closed).toBe(true);
  });

  test('lives on while heartbeats come', () => {
    server.say(HELLO);
    for (let i = 0; i < 20; i++) {
      server.pass(10_000);
      server.say({ t: 'hb', now: i, head: 50 });
    }
    expect(server.sockets).toHaveLength(1);
  });

  test('that never says hello is given up', () => {
    server.pass(10_100);
    expect(server.sockets[0]?.closed).toBe(true);
    expect(server.links.at(-1)).toMatchObject({ is: 'reconnecting' });
  });

  test('waits longer each time, and no longer than the maximum', () => {
    const waits: number[] = [];
    for (let n = 0; n < 10; n++) {
      server.last.handlers.close();
      const link = server.links.at(-1);
      if (link?.is !== 'reconnecting') throw new Error('not reconnecting');
      waits.push(link.at);
      const before = server.sockets.length;
      server.pass(RETRY_MAX_MS + 1);
      expect(server.sockets.length).toBeGreaterThan(before);
    }
    expect(backoff(0, () => 0.99)).toBe(RETRY_FIRST_MS);
    expect(backoff(50, () => 0.999_999)).toBeLessThanOrEqual(RETRY_MAX_MS);
    expect(backoff(50, () => 0)).toBe(RETRY_FIRST_MS);
  });

  test('says offline at once, and tries at once when the network is back', () => {
    server.say(HELLO);
    server.setOnline(false);
    server.it.network(false);
    expect(server.links.at(-1)).toEqual({ is: 'offline' });
    server.setOnline(true);
    server.it.network(true);
    expect(server.sockets).toHaveLength(2);
  });

  test('ends when the person is signed out, and comes back when they sign in', () => {
    server.say(HELLO, { t: 'bye', reason: 'signed_out', retry_ms: 0 });
    server.pass(60_000);
    expect(server.sockets).toHaveLength(1);
    expect(server.links.at(-1)).toEqual({ is: 'signed_out' });
    server.it.resume();
    expect(server.sockets).toHaveLength(2);
  });

  test('keeps to the wait that a shutdown asks for', () => {
    server.say(HELLO, { t: 'bye', reason: 'shutdown', retry_ms: 2_000 });
    server.pass(1_900);
    expect(server.sockets).toHaveLength(1);
    server.pass(200);
    expect(server.sockets).toHaveLength(2);
  });

  test('to a server with other contracts says that there is a new version, and reads on', () => {
    server = scripted(`sha256:${'1'.repeat(64)}`);
    const { it, heard } = listener();
    server.it.follow('audit', it);
    server.say(HELLO);
    expect(server.links.at(-1)).toEqual({ is: 'new_version' });
    server.say({ t: 'snap', id: 1, seq: 1, state: {} });
    expect(heard).toHaveLength(1);
  });

  test.each(['{', '[]trailing', '"x'])('that speaks no JSON (%s) is dropped', (text) => {
    server.say(HELLO);
    server.last.handlers.message(text);
    expect(server.sockets[0]?.closed).toBe(true);
  });

  test('hears nothing of a socket that it has given up', () => {
    const { it, heard } = listener();
    server.it.follow('audit', it);
    server.say(HELLO);
    const old = server.last;
    old.handlers.close();
    server.pass(20_000);
    server.say(HELLO, { t: 'snap', id: 2, seq: 5, state: {} });
    old.handlers.message(JSON.stringify({ t: 'snap', id: 2, seq: 1, state: {} }));
    expect(heard.filter((h) => (h as unknown[])[0] === 'snap')).toEqual([['snap', 5, {}]]);
  });
});

describe('a command', () => {
  test('given while offline is sent with its id when a connection comes', () => {
    server.it.command(stop('m-1'));
    expect(server.last.sent).toEqual([]);
    server.say(HELLO);
    expect(server.last.sent).toEqual([stop('m-1')]);
  });

  test('without an answer is sent again under the same id, and after the answer no more', () => {
    server.say(HELLO);
    server.it.command(stop('m-1'));
    server.last.handlers.close();
    server.pass(20_000);
    server.say(HELLO);
    expect(server.last.sent).toEqual([stop('m-1')]);
    server.say({ t: 'ack', id: 'm-1', seq: 51 });
    expect(server.answers).toEqual([['m-1', { ok: true, seq: 51, dispatch: null }]]);
    server.last.handlers.close();
    server.pass(20_000);
    server.say(HELLO);
    expect(server.last.sent).toEqual([]);
  });

  test('that is refused is answered with the code', () => {
    server.say(HELLO);
    server.it.command(stop('m-1'));
    server.say({ t: 'nack', id: 'm-1', code: 'NOT_FOUND' });
    expect(server.answers).toEqual([['m-1', { ok: false, code: 'NOT_FOUND', detail: null, hint: null }]]);
  });
});

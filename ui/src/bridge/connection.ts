// One connection to the bridge, kept open: what is followed, from which cursor, and what waits to be sent.
// It knows frames and cursors and nothing of pages. Time, chance and the socket itself come in from outside.
//
// Rules (ws.v1): a frame whose `prev` is not our cursor is a gap and the topic is asked for again from the cursor that
// we hold; no frame for 2.5 times hb_ms is a lost connection, whatever the socket says; a command keeps its id until it
// is answered, so sending it again is the same command.
import type { ws } from '../contracts/index.ts';
import { backoff } from './backoff.ts';
import type { Answer } from './outbox.ts';

/** What a person is told about the connection. It says nothing about any dispatch. */
export type Link =
  | { readonly is: 'connecting' }
  | { readonly is: 'live' }
  | { readonly is: 'catching_up'; readonly behind: number }
  | { readonly is: 'reconnecting'; readonly at: number }
  | { readonly is: 'offline' }
  | { readonly is: 'signed_out' }
  | { readonly is: 'new_version' };

/** What a topic's reader is told. */
export interface Listener {
  snap(seq: number, state: unknown): void;
  events(seq: number, events: readonly ws.Event[]): void;
  caught(seq: number): void;
  lag(behind: number): void;
  gone(reason: ws.Gone['reason']): void;
  refused(code: string): void;
  /** The connection is not there: what is shown is from before. */
  stale(): void;
}

export interface Wire {
  send(text: string): void;
  close(): void;
}

export interface Handlers {
  open(): void;
  message(text: string): void;
  close(): void;
}

export interface World {
  connect(handlers: Handlers): Wire;
  now(): number;
  random(): number;
  after(ms: number, run: () => void): () => void;
  online(): boolean;
}

export interface Options {
  readonly world: World;
  /** Digest of the contracts that this page was built for; another one means that the server is newer. */
  readonly contracts: string | null;
  onLink(link: Link): void;
  onHello(hello: ws.Hello): void;
  onHead(head: number, now: number): void;
  onAnswer(id: string, answer: Answer): void;
}

/** Before hello nothing says how long a heartbeat may take. */
const HELLO_WAIT_MS = 10_000;
/** A frame that is larger is not of the contract. */
const FRAME_CHARS_MAX = 1_048_576;

interface Subscription {
  readonly topic: string;
  readonly listener: Listener;
  /** Numbered anew on each connection; 0: not asked for on this one. */
  id: number;
  cursor: number | null;
  caught: boolean;
  behind: number;
  closed: boolean;
}

export interface Connection {
  follow(topic: string, listener: Listener, after?: number): () => void;
  /** Sends a command now if it can, and whenever a connection comes, until it is answered. */
  command(frame: ws.Cmd): void;
  forget(id: string): void;
  /** Tries now instead of at the end of the wait. */
  retry(): void;
  /** The browser says that the network went or came. */
  network(online: boolean): void;
  /** Signed in again. */
  resume(): void;
  stop(): void;
  link(): Link;
}

export function connection(options: Options): Connection {
  const { world } = options;
  const topics = new Set<Subscription>();
  const byId = new Map<number, Subscription>();
  const waiting = new Map<string, ws.Cmd>();
  let wire: Wire | null = null;
  let generation = 0;
  let greeted = false;
  let nextId = 1;
  let tries = 0;
  let heartbeat = HELLO_WAIT_MS / 2.5;
  let link: Link = { is: 'connecting' };
  let cancelRetry: (() => void) | null = null;
  let cancelDeadline: (() => void) | null = null;
  let stopped = false;

  const say = (next: Link) => {
    if (JSON.stringify(next) === JSON.stringify(link)) return;
    link = next;
    options.onLink(next);
  };

  const settle = () => {
    if (!greeted) return;
    const open = [...topics].filter((t) => !t.closed && !t.caught);
    if (open.length === 0) say({ is: 'live' });
    else say({ is: 'catching_up', behind: open.reduce((sum, t) => sum + t.behind, 0) });
  };

  const send = (frame: ws.ClientFrame) => {
    if (greeted) wire?.send(JSON.stringify(frame));
  };

  const ask = (topic: Subscription) => {
    byId.delete(topic.id);
    topic.id = nextId++;
    topic.caught = false;
    topic.closed = false;
    byId.set(topic.id, topic);
    send(topic.cursor === null ? { t: 'sub', id: topic.id, topic: topic.topic } : { t: 'sub', id: topic.id, topic: topic.topic, after: topic.cursor });
  };

  const again = (topic: Subscription) => {
    send({ t: 'unsub', id: topic.id });
    ask(topic);
    settle();
  };

  const alive = () => {
    cancelDeadline?.();
    cancelDeadline = world.after(heartbeat * 2.5, () => drop(null));
  };

  const clear = () => {
    generation++;
    cancelDeadline?.();
    cancelDeadline = null;
    const old = wire;
    wire = null;
    greeted = false;
    byId.clear();
    for (const topic of topics) topic.id = 0;
    old?.close();
  };

  /** The connection is lost or given up; the next try comes by itself. */
  const drop = (wait: number | null) => {
    const had = wire !== null;
    clear();
    if (had) for (const topic of topics) if (!topic.closed) topic.listener.stale();
    if (stopped) return;
    if (!world.online()) {
      say({ is: 'offline' });
      // A browser can be wrong about the network, so the tries go on, only rarely.
      schedule(wait ?? 15_000, true);
      return;
    }
    schedule(wait ?? backoff(tries, world.random), false);
    tries++;
  };

  const schedule = (ms: number, quiet: boolean) => {
    cancelRetry?.();
    if (!quiet) say({ is: 'reconnecting', at: world.now() + ms });
    cancelRetry = world.after(ms, open);
  };

  const open = () => {
    cancelRetry?.();
    cancelRetry = null;
    clear();
    if (stopped) return;
    const mine = generation;
    if (tries === 0 && link.is !== 'offline') say({ is: 'connecting' });
    heartbeat = HELLO_WAIT_MS / 2.5;
    alive();
    wire = world.connect({
      open: () => {},
      message: (text) => {
        if (mine !== generation) return;
        alive();
        receive(text);
      },
      close: () => {
        if (mine === generation) drop(null);
      },
    });
  };

  const end = (next: Link) => {
    cancelRetry?.();
    cancelRetry = null;
    clear();
    for (const topic of topics) if (!topic.closed) topic.listener.stale();
    say(next);
  };

  const receive = (text: string) => {
    let frame: ws.ServerFrame;
    try {
      if (text.length > FRAME_CHARS_MAX) throw new RangeError('frame too large');
      frame = JSON.parse(text) as ws.ServerFrame;
    } catch {
      drop(null);
      return;
    }
    switch (frame.t) {
      case 'hello':
        greeted = true;
        tries = 0;
        heartbeat = frame.hb_ms;
        alive();
        options.onHello(frame);
        options.onHead(frame.head, frame.now);
        for (const topic of topics) if (!topic.closed) ask(topic);
        for (const command of waiting.values()) send(command);
        settle();
        if (options.contracts !== null && frame.contracts !== options.contracts) say({ is: 'new_version' });
        return;
      case 'hb':
        options.onHead(frame.head, frame.now);
        return;
      case 'bye':
        if (frame.reason === 'signed_out' || frame.reason === 'expired') end({ is: 'signed_out' });
        else if (frame.reason === 'version') end({ is: 'new_version' });
        else drop(Math.max(frame.retry_ms, backoff(0, world.random)));
        return;
      case 'ack':
        waiting.delete(frame.id);
        options.onAnswer(frame.id, { ok: true, seq: frame.seq, dispatch: frame.dispatch ?? null });
        return;
      case 'nack': {
        if (typeof frame.id === 'string') {
          waiting.delete(frame.id);
          options.onAnswer(frame.id, { ok: false, code: frame.code, detail: frame.detail ?? null, hint: frame.hint ?? null });
          return;
        }
        const topic = byId.get(frame.id);
        if (topic) {
          topic.closed = true;
          topic.listener.refused(frame.code);
          settle();
        }
        return;
      }
      default: {
        const topic = byId.get(frame.id);
        if (topic) onTopic(topic, frame);
      }
    }
  };

  const onTopic = (topic: Subscription, frame: ws.Snap | ws.Ev | ws.Caught | ws.Lag | ws.Gone) => {
    switch (frame.t) {
      case 'snap':
        topic.cursor = frame.seq;
        topic.listener.snap(frame.seq, frame.state);
        return;
      case 'ev': {
        if (topic.cursor === null || frame.prev !== topic.cursor) {
          again(topic);
          return;
        }
        topic.cursor = frame.seq;
        topic.behind = Math.max(0, topic.behind - frame.events.length);
        topic.listener.events(frame.seq, frame.events);
        if (!topic.caught) settle();
        return;
      }
      case 'caught':
        topic.caught = true;
        topic.behind = 0;
        topic.cursor = frame.seq;
        topic.listener.caught(frame.seq);
        settle();
        return;
      case 'lag':
        topic.caught = false;
        topic.behind = frame.behind;
        topic.listener.lag(frame.behind);
        settle();
        return;
      case 'gone':
        if (frame.reason === 'retention') {
          // A snapshot follows if the topic still is.
          topic.cursor = null;
        } else {
          topic.closed = true;
        }
        topic.listener.gone(frame.reason);
        settle();
        return;
      default:
    }
  };

  open();
  return {
    follow(topic, listener, after) {
      const subscription: Subscription = {
        topic,
        listener,
        id: 0,
        cursor: after ?? null,
        caught: false,
        behind: 0,
        closed: false,
      };
      topics.add(subscription);
      if (greeted) {
        ask(subscription);
        settle();
      }
      return () => {
        topics.delete(subscription);
        if (subscription.id > 0 && byId.delete(subscription.id) && !subscription.closed) {
          send({ t: 'unsub', id: subscription.id });
        }
        settle();
      };
    },
    command(frame) {
      waiting.set(frame.id, frame);
      send(frame);
    },
    forget: (id) => void waiting.delete(id),
    retry() {
      if (link.is === 'reconnecting' || link.is === 'offline') open();
    },
    network(online) {
      if (link.is === 'signed_out') return;
      if (online) {
        if (wire === null) open();
      } else {
        clear();
        for (const topic of topics) if (!topic.closed) topic.listener.stale();
        say({ is: 'offline' });
        schedule(15_000, true);
      }
    },
    resume() {
      tries = 0;
      open();
    },
    stop() {
      stopped = true;
      cancelRetry?.();
      clear();
    },
    link: () => link,
  };
}

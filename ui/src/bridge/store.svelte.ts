// The one store: a topic is a state at a sequence and how fresh it is. Pages read it and send commands, nothing else.
// Folds change a state as frames come; pages are told at most once a frame of the screen.
import { createSubscriber } from 'svelte/reactivity';
import type { ws } from '../contracts/index.ts';
import { connection, type Connection, type Link, type World } from './connection.ts';
import { keep, recall } from './keep.ts';
import * as outbox from './outbox.ts';
import type { Kind } from './topics.ts';

/** How fresh what is shown is. */
export type Freshness = 'loading' | 'live' | 'catching_up' | 'stale' | 'gone' | 'refused';

export interface Held<S> {
  readonly state: S;
  readonly seq: number;
  readonly status: Freshness;
  /** When it was last known to be complete, by this computer's clock. */
  readonly as_of: number | null;
  /** Why it is gone or refused. */
  readonly code: string | null;
  /** Something has been shown already: an outage keeps it. */
  readonly ready: boolean;
  /** Puts what was read over REST beside what the topic brought. */
  put(change: (state: S) => void): void;
}

/** A topic that nobody looks at is kept this long, so that going back costs nothing. */
const LINGER_MS = 15_000;
/** No more than this many of them: a connection has 64 subscriptions. */
const LINGERING_MAX = 12;
const BRIDGE_PATH = '/api/v1/ws';

interface Entry<S> {
  held: { state: S; seq: number; status: Freshness; as_of: number | null; code: string | null; ready: boolean };
  readonly watch: () => void;
  readonly put: (change: (state: S) => void) => void;
  /** Asks the bridge for it; not while a page is being drawn, for it changes what the header shows. */
  readonly begin: () => void;
  users: number;
  leave: (() => void) | null;
  linger: ReturnType<typeof setTimeout> | null;
}

const browser: World = {
  now: () => Date.now(),
  random: () => Math.random(),
  online: () => navigator.onLine,
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
  connect(handlers) {
    const url = new URL(BRIDGE_PATH, location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    socket.onopen = () => handlers.open();
    socket.onmessage = (event: MessageEvent<unknown>) => {
      if (typeof event.data === 'string') handlers.message(event.data);
    };
    socket.onclose = () => handlers.close();
    return {
      send: (text) => {
        if (socket.readyState === WebSocket.OPEN) socket.send(text);
      },
      close: () => {
        socket.onmessage = socket.onclose = socket.onopen = null;
        socket.close();
      },
    };
  },
};

let line: Connection | null = null;
let link = $state.raw<Link>({ is: 'connecting' });
let hello = $state.raw<ws.Hello | null>(null);
let head = $state.raw({ seq: 0, at: 0 });
let box = $state.raw<readonly outbox.Entry[]>(outbox.read(recall('outbox', [])));
let subject = '';
const entries = new Map<string, Entry<unknown>>();
/** Topics that nobody looks at, the oldest first, and how each is let go. */
const lingering = new Map<string, () => void>();
const answers = new Map<string, (answer: outbox.Answer) => void>();

/** What the header and the status bar show. */
export const bridge = {
  get link(): Link {
    return link;
  },
  /** Decisions are taken only on what is live. */
  get live(): boolean {
    return link.is === 'live';
  },
  /** The server hears what is sent, also while something that is shown still catches up: enough for what is never wrong, such as a stop. */
  get connected(): boolean {
    return link.is === 'live' || link.is === 'catching_up';
  },
  get hello(): ws.Hello | null {
    return hello;
  },
  get head(): { readonly seq: number; readonly at: number } {
    return head;
  },
  get outbox(): readonly outbox.Entry[] {
    return box;
  },
  retry: () => line?.retry(),
};

/** Opens the connection for a person who signed in. */
export function start(who: string): void {
  if (line && subject === who) {
    line.resume();
    return;
  }
  stop();
  link = { is: 'connecting' };
  subject = who;
  line = connection({
    world: browser,
    contracts: null,
    onLink: (next) => (link = next),
    onHello: (frame) => (hello = frame),
    onHead: (seq) => (head = { seq, at: Date.now() }),
    onAnswer: (id, answer) => {
      save(outbox.answered(box, id, answer));
      answers.get(id)?.(answer);
      answers.delete(id);
    },
  });
  for (const entry of outbox.unsent(box, who)) line.command(entry.command);
}

/** Ends the connection and forgets what was read: the next person sees nothing of it. Drafts and the outbox stay. */
export function stop(): void {
  line?.stop();
  line = null;
  for (const entry of entries.values()) {
    entry.leave?.();
    if (entry.linger) clearTimeout(entry.linger);
  }
  entries.clear();
  lingering.clear();
  link = { is: 'signed_out' };
}

/** The browser's own signs that it is worth trying now. */
export function listen(): () => void {
  const online = () => line?.network(true);
  const offline = () => line?.network(false);
  const seen = () => {
    if (!document.hidden) line?.retry();
  };
  const shared = (event: StorageEvent) => {
    if (event.key === 'custody.outbox') box = outbox.read(recall('outbox', []));
  };
  addEventListener('online', online);
  addEventListener('offline', offline);
  addEventListener('focus', seen);
  addEventListener('storage', shared);
  document.addEventListener('visibilitychange', seen);
  return () => {
    removeEventListener('online', online);
    removeEventListener('offline', offline);
    removeEventListener('focus', seen);
    removeEventListener('storage', shared);
    document.removeEventListener('visibilitychange', seen);
  };
}

function save(next: readonly outbox.Entry[]): void {
  box = next;
  keep('outbox', next.length === 0 ? null : next);
}

/** Puts a message into the outbox and sends it as soon as there is a connection. False: the outbox is full. */
export function post(entry: Pick<outbox.Entry, 'id' | 'session' | 'text' | 'at' | 'command'>): boolean {
  const next = outbox.add(box, { ...entry, subject, stage: 'queued', seq: null, dispatch: null, code: null, detail: null, hint: null });
  if (next === null) return false;
  save(next);
  line?.command(entry.command);
  return true;
}

/** Takes a message out: it was seen in the log, or its writer gave it up. */
export function discard(id: string): void {
  line?.forget(id);
  save(outbox.without(box, id));
}

/** Sends a command that is only worth something now, such as a stop, and waits for its answer. */
export function ask(command: ws.Cmd): Promise<outbox.Answer> {
  return new Promise((resolve) => {
    if (!line || !bridge.connected) {
      resolve({ ok: false, code: 'NOT_LIVE', detail: null, hint: null });
      return;
    }
    const timer = setTimeout(() => {
      answers.delete(command.id);
      line?.forget(command.id);
      resolve({ ok: false, code: 'TIMED_OUT', detail: null, hint: null });
    }, 20_000);
    answers.set(command.id, (answer) => {
      clearTimeout(timer);
      resolve(answer);
    });
    line.command(command);
  });
}

/** A new id for a command. */
export const newId = (): string => `w-${crypto.randomUUID()}`;

/** Calls at most once a frame of the screen; in a hidden tab, where no frame comes, once in a while. */
function batched(run: () => void): () => void {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    const now = () => {
      due = false;
      run();
    };
    if (document.hidden) setTimeout(now, 250);
    else requestAnimationFrame(now);
  };
}

function open<S>(topic: string, kind: Kind<S>): Entry<S> {
  const known = entries.get(topic) as Entry<S> | undefined;
  if (known) return known;
  const held: Entry<S>['held'] = { state: kind.fresh(), seq: 0, status: 'loading', as_of: null, code: null, ready: false };
  let tell = () => {};
  const watch = createSubscriber((update) => {
    tell = batched(update);
    return () => {
      tell = () => {};
    };
  });
  const set = (status: Freshness, code: string | null = null) => {
    held.status = status;
    held.code = code;
    tell();
  };
  const begin = () => {
    entry.leave ??=
      line?.follow(topic, {
      snap(seq, state) {
        held.state = kind.snap(state as Readonly<Record<string, unknown>>);
        held.seq = seq;
        held.ready = true;
        set('catching_up');
      },
      events(seq, events) {
        for (const event of events) kind.apply(held.state, event);
        held.seq = seq;
        held.as_of = Date.now();
        tell();
      },
      caught(seq) {
        held.seq = seq;
        held.ready = true;
        held.as_of = Date.now();
        set('live');
      },
      lag: () => set('catching_up'),
      gone: (reason) => {
        if (reason === 'retention') held.state = kind.fresh();
        set(reason === 'retention' ? 'catching_up' : 'gone', reason);
      },
      refused: (code) => set('refused', code),
      stale: () => {
        if (held.status === 'live' || held.status === 'catching_up') set('stale');
      },
      }) ?? null;
  };
  const put = (change: (state: S) => void) => {
    change(held.state);
    tell();
  };
  const entry: Entry<S> = { held, watch, put, begin, users: 0, leave: null, linger: null };
  entries.set(topic, entry as Entry<unknown>);
  return entry;
}

function hold<S>(name: string, entry: Entry<S>): void {
  if (entry.linger) clearTimeout(entry.linger);
  entry.linger = null;
  lingering.delete(name);
}

/** Keeps a topic for a while, and fewer when there are many. */
function letGo<S>(name: string, entry: Entry<S>): void {
  const end = () => {
    hold(name, entry);
    if (entry.users > 0 || entries.get(name) !== (entry as Entry<unknown>)) return;
    entry.leave?.();
    entries.delete(name);
  };
  entry.linger = setTimeout(end, LINGER_MS);
  lingering.set(name, end);
  if (lingering.size > LINGERING_MAX) lingering.values().next().value?.();
}

/** A topic, followed as long as the component that asked is there. `topic` may change; null follows nothing. */
export function follow<S>(topic: () => string | null, kind: Kind<S>): Held<S> {
  const nothing = { state: kind.fresh(), seq: 0, status: 'loading' as Freshness, as_of: null, code: null, ready: false };
  const entry = $derived.by(() => {
    const name = topic();
    return name === null ? null : open(name, kind);
  });
  $effect(() => {
    const mine = entry;
    const name = topic();
    if (!mine || name === null) return;
    mine.users++;
    hold(name, mine);
    mine.begin();
    return () => {
      mine.users--;
      if (mine.users === 0) letGo(name, mine);
    };
  });
  const now = (): Omit<Held<S>, 'put'> => {
    if (!entry) return nothing;
    entry.watch();
    return entry.held;
  };
  return {
    get state() {
      return now().state;
    },
    get seq() {
      return now().seq;
    },
    get status() {
      return now().status;
    },
    get as_of() {
      return now().as_of;
    },
    get code() {
      return now().code;
    },
    get ready() {
      return now().ready;
    },
    put: (change) => entry?.put(change),
  };
}

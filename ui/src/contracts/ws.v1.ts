// Generated from contracts/ws.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as ledger_v1 from './ledger.v1.ts';
import type * as unit_v1 from './unit.v1.ts';

/** What the browser sends: one JSON object a message. */
export type ClientFrame = Sub | Unsub | Cmd;

/** What the server sends: one JSON object a message. */
export type ServerFrame = Hello | Snap | Ev | Caught | Lag | Gone | Ack | Nack | Hb | Bye;

/** The subscription, numbered by the client. */
export type SubId = number;

/** The command's id, made by the client: the same id sent twice is one command. */
export type MsgId = string;

/** A topic: a word, or a word and an id. dispatches, dispatch/ID, sessions, session/ID and audit read the ledger; output/ID reads OUTPUT; health reads no stream. Each topic reads one stream. */
export type Topic = string;

/** Follow a topic. With a cursor: what came after it. Without: a snapshot first. */
export type Sub = {
  /** Which frame this is. */
  readonly t: "sub";
  /** A number that the client has not used on this connection. */
  readonly id: SubId;
  /** What to follow. */
  readonly topic: Topic;
  /** The last sequence that the client has. */
  readonly after?: number;
};

/** Follow no longer. */
export type Unsub = {
  /** Which frame this is. */
  readonly t: "unsub";
  /** Which subscription. */
  readonly id: SubId;
};

/** A command. It is answered by ack or nack, and what it caused arrives as events. */
export type Cmd = CmdStart | CmdStop | CmdRetry | CmdSay;

/** Start a dispatch. A turn of a session that is at work waits for the one before it: this is also how a follow-up is queued. */
export type CmdStart = {
  /** Which frame this is. */
  readonly t: "cmd";
  /** The command's id. */
  readonly id: MsgId;
  /** Which command. */
  readonly name: "dispatch.start";
  /** What to dispatch. Its subject is the signed-in person, or it is refused. */
  readonly args: unit_v1.InvocationWithoutToken;
};

/** Stop a dispatch. */
export type CmdStop = {
  /** Which frame this is. */
  readonly t: "cmd";
  /** The command's id. */
  readonly id: MsgId;
  /** Which command. */
  readonly name: "dispatch.stop";
  /** What to stop. */
  readonly args: {
    /** Which dispatch. */
    readonly dispatch: string;
    /** How long the agent has between TERM and KILL, in milliseconds. Absent: the runtime's own. */
    readonly grace_ms?: number;
  };
};

/** Launch again what a dispatch was asked, as a new dispatch: the next turn of its session, or a new session if it began one. */
export type CmdRetry = {
  /** Which frame this is. */
  readonly t: "cmd";
  /** The command's id. */
  readonly id: MsgId;
  /** Which command. */
  readonly name: "dispatch.retry";
  /** What to launch again. */
  readonly args: {
    /** Which dispatch. */
    readonly dispatch: string;
  };
};

/** Say more to a dispatch that has not ended: the next turn in the container that is there already. Its unit must allow more than one turn. */
export type CmdSay = {
  /** Which frame this is. */
  readonly t: "cmd";
  /** The command's id. */
  readonly id: MsgId;
  /** Which command. */
  readonly name: "dispatch.say";
  /** What to say, and to whom. */
  readonly args: {
    /** Which dispatch. */
    readonly dispatch: string;
    /** The words of the follow-up, as in input.v1. */
    readonly text: string;
  };
};

/** The first frame of a connection. */
export type Hello = {
  /** Which frame this is. */
  readonly t: "hello";
  /** The server's clock. Unix milliseconds, UTC. */
  readonly now: number;
  /** The ledger's last sequence. */
  readonly head: number;
  /** Digest of the set of contracts the server speaks; another one than the page was built with means a new version. */
  readonly contracts: string;
  /** The server's version. */
  readonly version: string;
  /** A heartbeat comes at least this often, in milliseconds. No frame for 2.5 times as long: the connection is lost. */
  readonly hb_ms: number;
};

/** The topic's state as of a sequence. Events after it follow. */
export type Snap = {
  /** Which frame this is. */
  readonly t: "snap";
  /** Which subscription. */
  readonly id: SubId;
  /** The state holds everything up to here: the client's cursor now. */
  readonly seq: number;
  /** The topic's state: README.md says its shape for each topic. */
  readonly state: { readonly [key: string]: unknown };
};

/** Events of a topic, batched. */
export type Ev = {
  /** Which frame this is. */
  readonly t: "ev";
  /** Which subscription. */
  readonly id: SubId;
  /** The sequence of the last event in it: the client's cursor now. */
  readonly seq: number;
  /** The cursor before it. Another one than the client's means a gap: subscribe again. */
  readonly prev: number;
  /** The events, oldest first. */
  readonly events: readonly Event[];
};

/** One event. Of a ledger topic: the stored event without its signature. Of audit: type custody.audit.row.v1 and an audit.v1 Row. Of output: type custody.output.chunk.v1 and an output.v2 Chunk. */
export type Event = {
  /** Its sequence in the topic's stream. */
  readonly seq: number;
  /** Its CloudEvents type. */
  readonly type: string;
  /** When it happened. RFC 3339, with a zone. */
  readonly time: string;
  /** Its data: the shape that the type names in its own contract. */
  readonly data: { readonly [key: string]: unknown };
  /** The event's own id. */
  readonly id?: string;
  /** The person in whose name it happened. */
  readonly subject?: unit_v1.Subject;
  /** The launcher behind it. */
  readonly launcher?: ledger_v1.LauncherId;
  /** The grant it happened under, or not_checked. */
  readonly grant?: string;
  /** The key that signed it. */
  readonly keyid?: ledger_v1.KeyId;
  /** Id of what caused it. */
  readonly causation?: string;
  /** What it belongs to: the dispatch, or the entity for events outside one. */
  readonly correlation?: string;
};

/** The client has everything there is; what comes now is live. */
export type Caught = {
  /** Which frame this is. */
  readonly t: "caught";
  /** Which subscription. */
  readonly id: SubId;
  /** The client's cursor. */
  readonly seq: number;
};

/** The client reads more slowly than events come. */
export type Lag = {
  /** Which frame this is. */
  readonly t: "lag";
  /** Which subscription. */
  readonly id: SubId;
  /** How many events it is behind. */
  readonly behind: number;
};

/** The cursor is no longer readable; a snapshot follows if the topic still is. */
export type Gone = {
  /** Which frame this is. */
  readonly t: "gone";
  /** Which subscription. */
  readonly id: SubId;
  /** retention: the stream no longer holds it. forbidden: the right to read was withdrawn. unknown: there is no such thing, or it is not the client's. */
  readonly reason: "retention" | "forbidden" | "unknown";
};

/** A command is stored. Whether a launch is admitted is decided afterwards, and arrives as an event. */
export type Ack = {
  /** Which frame this is. */
  readonly t: "ack";
  /** Which command. */
  readonly id: MsgId;
  /** Where it is stored: in LAUNCH for dispatch.start and dispatch.retry, in the ledger for dispatch.stop. */
  readonly seq: number;
  /** The dispatch that it is about: for a launch the one that will be admitted or refused. */
  readonly dispatch?: ledger_v1.DispatchId;
};

/** A command or a subscription is refused, and nothing was stored. */
export type Nack = {
  /** Which frame this is. */
  readonly t: "nack";
  /** The command's id, or the number of the subscription that was asked for. */
  readonly id: string | number;
  /** Why. An upper-case code that never changes its meaning. */
  readonly code: string;
  /** What was wrong, in a sentence for a person. */
  readonly detail?: string;
  /** What to do about it. */
  readonly hint?: string;
};

/** The connection lives. */
export type Hb = {
  /** Which frame this is. */
  readonly t: "hb";
  /** The server's clock. Unix milliseconds, UTC. */
  readonly now: number;
  /** The ledger's last sequence. */
  readonly head: number;
};

/** The server closes the connection. */
export type Bye = {
  /** Which frame this is. */
  readonly t: "bye";
  /** slow: the client did not keep up. signed_out: the session was ended, or its user may no longer come in. expired: the session's time is over. shutdown: the server stops. version: the page is too old. protocol: a frame was not of this contract or too large. full: there is no room for another connection. */
  readonly reason: "slow" | "signed_out" | "expired" | "shutdown" | "version" | "protocol" | "full";
  /** Come back after this long, in milliseconds. 0: do not, sign in first. */
  readonly retry_ms: number;
};

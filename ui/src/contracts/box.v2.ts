// Generated from contracts/box.v2/schema.json by scripts/types.mjs. Do not edit.
import type * as agent_runner_v2 from './agent-runner.v2.ts';
import type * as unit_v1 from './unit.v1.ts';

/** A line from the worker to the gateway. */
export type WorkerMessage = Hello | FrameLine;

/** A line from the gateway to the worker. */
export type GatewayMessage = JobLine | Ack | Stop | Input;

/** One thing the agent said or did, numbered by the worker. The last one is always exit. */
export type Frame = Started | Text | ToolCall | ToolResult | Usage | SessionNamed | Log | Error | Result | Truncated | Turn | Exit;

/** Everything the worker needs to run the agent. It holds no credential. */
export type Job = {
  /** The dispatch. */
  readonly dispatch: string;
  /** Which attempt at it. */
  readonly attempt: Attempt;
  /** The conversation. */
  readonly session: JobSession;
  /** How to run the agent. */
  readonly runner: agent_runner_v2.Runner;
  /** What {{prompt}} stands for. Empty: a session is resumed without new words. */
  readonly prompt: string;
  /** What is mounted. The first one is {{workspace}} and where the agent starts. */
  readonly workspaces: readonly JobWorkspace[];
  /** What {{model}} stands for: the model to ask for. Empty: the runner uses none. */
  readonly model: string;
  /** What {{inference_url}} stands for: unix:/run/gw/gw.sock. The worker gives agents that insist on TCP a local port instead. */
  readonly inference_url: InferenceUrl;
  /** What {{mcp_url}} stands for. Absent: no tools are offered. */
  readonly mcp_url?: DoorUrl;
  /** The worker's clocks and ceilings. */
  readonly limits: JobLimits;
  /** True: after a turn the worker stays for an input, which is the next turn, until it was idle for too long. */
  readonly follow_up?: boolean;
};

/** An attempt at a dispatch, from 1. */
export type Attempt = number;

/** An absolute path in the box. */
export type AbsPath = string;

/** A Unix socket in the box: unix:<absolute path>. */
export type InferenceUrl = string;

/** A door of the gateway as the box sees it: a Unix socket, or a port of the box's own loopback. */
export type DoorUrl = string;

/** The agent's own name for its session, on one line. */
export type AgentSession = string;

/** The session of this run. */
export type JobSession = {
  /** The session's id. */
  readonly id: string;
  /** Its file in the box: /session/session.jsonl. */
  readonly path: AbsPath;
  /** True: the file is there and the agent goes on from it. */
  readonly resume: boolean;
  /** The agent's own id for it, for runners that need one to resume. */
  readonly agent_session?: AgentSession;
};

/** A mounted workspace. */
export type JobWorkspace = {
  /** Which workspace. */
  readonly id: unit_v1.WorkspaceId;
  /** Where it is mounted. */
  readonly path: AbsPath;
  /** What the mount allows. */
  readonly mode: unit_v1.Mode;
};

/** What the worker enforces itself; the runtime enforces it again from outside. */
export type JobLimits = {
  /** From start to end, in milliseconds (seven days at most). */
  readonly wall_ms: number;
  /** Without a frame, in milliseconds (one day at most). */
  readonly idle_ms: number;
  /** Between TERM and KILL, in milliseconds. */
  readonly grace_ms: number;
  /** Bytes of frames, as lines, before the rest is dropped (1 GiB at most). */
  readonly output_bytes: number;
  /** The most turns in this box. */
  readonly turns?: number;
  /** The most tool calls in this box, counted from the agent's output. */
  readonly tool_calls?: number;
};

/** The first line after every connect. */
export type Hello = {
  /** Which line this is. */
  readonly type: "hello";
  /** The protocol that the worker speaks. */
  readonly protocol: "box.v2";
  /** The dispatch it already works for. Null: it has no job yet. */
  readonly dispatch: string | null;
  /** The highest frame number made so far; 0 when it has just started. */
  readonly last_seq: number;
  /** The highest follow-up it has taken. Absent: none. */
  readonly inputs?: number;
};

/** One frame. */
export type FrameLine = {
  /** Which line this is. */
  readonly type: "frame";
  /** The frame. */
  readonly frame: Frame;
};

/** What to do. Sent once after each hello; a worker that has the same job ignores it, one that has another ends with gateway_lost. */
export type JobLine = {
  /** Which line this is. */
  readonly type: "job";
  /** The job. */
  readonly job: Job;
};

/** Every frame up to here is durable; the worker may forget them. */
export type Ack = {
  /** Which line this is. */
  readonly type: "ack";
  /** The highest durable frame number; 0: none. */
  readonly seq: number;
};

/** End the agent: TERM to its process group, KILL after the grace. */
export type Stop = {
  /** Which line this is. */
  readonly type: "stop";
  /** Between TERM and KILL, in milliseconds. */
  readonly grace_ms: number;
  /** Why, and what the exit frame will say. */
  readonly reason: "stopped" | "max_lifetime" | "idle_timeout";
};

/** Words for the agent's standard input. An error frame is the answer of a runner that has none. */
export type Input = {
  /** Which line this is. */
  readonly type: "input";
  /** The words. */
  readonly text: string;
  /** Its number, from 1. The worker takes each number once. Absent: it is not numbered. */
  readonly n?: number;
};

/** The agent's process runs. */
export type Started = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "started";
  /** Its process id in the box. */
  readonly pid: number;
  /** True: it goes on from a session file. */
  readonly resumed: boolean;
};

/** More of the assistant's words. */
export type Text = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "text";
  /** The words, without those before. */
  readonly text: string;
};

/** The agent calls a tool. */
export type ToolCall = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "tool_call";
  /** The call's id, as the agent gives it; - when it gives none. */
  readonly id: string;
  /** The tool, as the agent names it. */
  readonly name: string;
  /** Its arguments, as the agent gives them: not ours, so nothing is said about their inside. */
  readonly args: { readonly [key: string]: unknown };
};

/** A tool answered. */
export type ToolResult = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "tool_result";
  /** The call's id, as the agent gives it; - when it gives none. */
  readonly id: string;
  /** Whether it worked. */
  readonly ok: boolean;
  /** What it said. */
  readonly text: string;
};

/** Tokens used so far, as the agent counts them. */
export type Usage = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "usage";
  /** Tokens sent. */
  readonly input_tokens: number;
  /** Tokens received. */
  readonly output_tokens: number;
};

/** The agent named its session. */
export type SessionNamed = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "session";
  /** The name. */
  readonly agent_session: AgentSession;
};

/** Output that the mapping did not know, or standard error. */
export type Log = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "log";
  /** Where it came from. */
  readonly stream: "stdout" | "stderr";
  /** The text: at most 16384 bytes. */
  readonly text: string;
};

/** Something went wrong. */
export type Error = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "error";
  /** The worker's own code, such as bad_template, or the agent's. */
  readonly code: string;
  /** A sentence. */
  readonly message: string;
};

/** The agent's own final word. Without one, exit code 0 is not success. */
export type Result = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "result";
  /** The word. */
  readonly text: string;
};

/** Output beyond the limit was dropped. */
export type Truncated = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "truncated";
  /** How many bytes were kept before the rest was dropped. */
  readonly bytes: number;
};

/** One turn is over: the agent's process has ended, and its output is in the frames before this one. */
export type Turn = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "turn";
  /** Which turn of this box, from 1. */
  readonly turn: number;
  /** Why, as the worker saw it. */
  readonly reason: "completed" | "failed" | "idle_timeout" | "max_lifetime" | "stopped" | "gateway_lost";
  /** The agent's exit code. Absent: a signal ended it, or it never ran. */
  readonly code?: number;
  /** The signal that ended it. */
  readonly signal?: number;
  /** What the kernel counted in the box's network namespace. Absent: it does not say. */
  readonly network?: Network;
};

/** Counters of one turn. An agent that tries no other way out has opened = relayed, and zeros. */
export type Network = {
  /** TCP connections that were begun, the relay's among them. */
  readonly opened: number;
  /** Those that the worker's relay took. */
  readonly relayed: number;
  /** TCP connections that were refused or timed out. */
  readonly failed: number;
  /** Packets and connections for which there was no route. */
  readonly no_route: number;
  /** UDP datagrams that were sent. */
  readonly datagrams: number;
};

/** The end. Nothing follows it. */
export type Exit = {
  /** The frame's number: 1, 2, 3, … */
  readonly seq: number;
  /** When, by the box's clock: for screens, never for a decision. Unix milliseconds, UTC. */
  readonly at: number;
  /** What happened. */
  readonly kind: "exit";
  /** Why, as the worker saw it. */
  readonly reason: "completed" | "failed" | "idle_timeout" | "max_lifetime" | "stopped" | "gateway_lost";
  /** The agent's exit code. Absent: a signal ended it, or it never ran. */
  readonly code?: number;
  /** The signal that ended it. */
  readonly signal?: number;
  /** More, in a sentence. */
  readonly detail?: string;
};

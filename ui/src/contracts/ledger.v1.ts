// Generated from contracts/ledger.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as box_v1 from './box.v1.ts';
import type * as runtime_v1 from './runtime.v1.ts';
import type * as unit_v1 from './unit.v1.ts';

/** A dispatch was admitted. */
export type DispatchAdmitted = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Its session. */
  readonly session: SessionId;
  /** What was asked for, without token. */
  readonly unit: unit_v1.InvocationWithoutToken;
  /** Where it was asked for. */
  readonly launch: LaunchRef;
  /** What runs it, pinned by digest. */
  readonly runner: RunnerRef;
  /** What was found of the grant. not_checked: this version checks none, and says so. */
  readonly grant: "not_checked";
  /** What was found of the launch message's signature. absent: this launcher need not sign. */
  readonly signature: "verified" | "absent";
};

/** A dispatch was refused. Every attempt is evidence. */
export type DispatchRefused = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Where it was asked for. */
  readonly launch: LaunchRef;
  /** Why, such as LAUNCHER_UNKNOWN. An upper-case code that never changes its meaning. */
  readonly reason: string;
  /** What was wrong, in a sentence. */
  readonly detail: string;
  /** What to do about it. May be empty. */
  readonly hint: string;
};

/** Somebody asked for a dispatch to stop. */
export type DispatchStopRequested = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Who did it. */
  readonly by: By;
  /** Between TERM and KILL, in milliseconds. */
  readonly grace_ms: number;
};

/** A runtime took a dispatch: no other will run it. */
export type RunClaimed = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Which attempt this is. */
  readonly attempt: Attempt;
  /** The runtime that took it. */
  readonly runtime: Instance;
  /** The image's id. */
  readonly image: string;
  /** The container's name. */
  readonly container_name: string;
  /** SHA-256 of the container's settings, as they were sent to the engine. */
  readonly spec_digest: string;
  /** Its session. */
  readonly session: SessionId;
  /** SHA-256 of the session file it resumes from. Null: a first turn. */
  readonly resume_digest: string | null;
  /** When it must have ended. Unix milliseconds, UTC. */
  readonly deadline_at: number;
};

/** The container runs. */
export type RunStarted = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Which attempt this is. */
  readonly attempt: Attempt;
  /** The engine's id of the container. */
  readonly container: ContainerId;
  /** When the engine started it. Unix milliseconds, UTC. */
  readonly started_at: number;
  /** How long each phase of the start took. */
  readonly phases_ms: { readonly [key: string]: number };
};

/** The run is over: the one last event of a dispatch that ran. */
export type RunFinished = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Which attempt this was. */
  readonly attempt: Attempt;
  /** The engine's id of the container. Absent: there was none. */
  readonly container?: ContainerId;
  /** The container's exit code. Absent: there was none. */
  readonly exit_code?: runtime_v1.ExitCode;
  /** Why it ended. */
  readonly reason: runtime_v1.StopReason;
  /** More, in a sentence. */
  readonly detail?: string;
  /** When it started. Absent: it did not. Unix milliseconds, UTC. */
  readonly started_at?: number;
  /** When it ended. Unix milliseconds, UTC. */
  readonly finished_at: number;
  /** The session file it left. Absent: none. */
  readonly session?: SessionFile;
  /** Where its output is, and what it was. */
  readonly output: OutputRef;
  /** What it used. */
  readonly usage: Usage;
  /** The agent's own id for its session. */
  readonly agent_session?: box_v1.AgentSession;
};

/** A model was called for a dispatch. */
export type ModelCalled = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** The call's number within the dispatch, from 1. */
  readonly n: number;
  /** The wire format that the agent spoke. */
  readonly api: "openai-chat" | "anthropic" | "openai-responses";
  /** The upstream's configured name. Never an address, never a key. */
  readonly upstream: string;
  /** The model that was asked for, as the agent named it. */
  readonly model: string;
  /** SHA-256 of the request's body. */
  readonly request_digest: string;
  /** SHA-256 of the response's body as it was passed on; of nothing when there was none. */
  readonly response_digest: string;
  /** The upstream's HTTP status. 0: no answer came. */
  readonly status: number;
  /** Whether an answer came whole. */
  readonly outcome: "succeeded" | "failed";
  /** What went wrong. */
  readonly detail?: string;
  /** Tokens sent, as the upstream counts. */
  readonly input_tokens: number;
  /** Tokens received, as the upstream counts. */
  readonly output_tokens: number;
  /** From the request to the response's last byte, in milliseconds. */
  readonly duration_ms: number;
};

/** A launcher was registered. */
export type LauncherRegistered = {
  /** The launcher. */
  readonly launcher: LauncherId;
  /** Its key. */
  readonly public_key: Nkey;
  /** What people call it. */
  readonly name: string;
  /** required: a message without a good signature is refused. optional: a signature is checked when there is one. */
  readonly signature: "required" | "optional";
  /** Persons it may act for until grants exist; * is everybody. */
  readonly subjects: readonly string[];
  /** Who did it. */
  readonly by: By;
};

/** A launcher got a new key. The old one is refused from here on. */
export type LauncherRotated = {
  /** The launcher. */
  readonly launcher: LauncherId;
  /** Its new key. */
  readonly public_key: Nkey;
  /** Who did it. */
  readonly by: By;
};

/** A launcher was disabled. */
export type LauncherDisabled = {
  /** The launcher. */
  readonly launcher: LauncherId;
  /** Who did it. */
  readonly by: By;
  /** Why. */
  readonly why: string;
};

/** A role's signing key was introduced. The first one of a ledger is the authority's own. */
export type KeyIntroduced = {
  /** The key's id. */
  readonly kid: KeyId;
  /** The role it signs for. */
  readonly role: "api" | "authority" | "runtime" | "gateway" | "scheduler" | "projector";
  /** The Ed25519 public key, in lower-case hexadecimal. */
  readonly public_key: string;
  /** The instance that holds the other half. */
  readonly instance: Instance;
};

/** A key signs nothing after this. */
export type KeyRetired = {
  /** The key's id. */
  readonly kid: KeyId;
  /** Why. */
  readonly why: string;
};

/** The tree over the first messages of the ledger was signed. */
export type CheckpointSigned = {
  /** The log's name, as C2SP checkpoints have it. */
  readonly origin: string;
  /** How many leaves the tree has. */
  readonly size: number;
  /** The root hash (RFC 6962), in standard base64. */
  readonly root: string;
  /** The whole C2SP signed note: text, an empty line, signatures. */
  readonly note: string;
};

/** A dispatch's id. */
export type DispatchId = string;

/** A session's id. */
export type SessionId = string;

/** A launcher's id: the token in launch.<launcher>.<verb>. */
export type LauncherId = string;

/** A person or an operator's tool, such as u_jane or operator:cli. */
export type By = string;

/** An instance of a role. */
export type Instance = string;

/** A key's id. */
export type KeyId = string;

/** The public half of a NATS user nkey: U and 55 characters. */
export type Nkey = string;

/** An attempt at a dispatch, from 1. */
export type Attempt = number;

/** A container's id. */
export type ContainerId = string;

/** The launch message that this answers. */
export type LaunchRef = {
  /** Its sequence in the LAUNCH stream. */
  readonly stream_seq: number;
  /** Who published it, as the account boundary says it. */
  readonly launcher: LauncherId;
  /** Its CloudEvents id. Null: it could not be read. */
  readonly event_id: string | null;
  /** SHA-256 of its stored bytes. */
  readonly digest: string;
};

/** A runner, pinned. */
export type RunnerRef = {
  /** Its name. */
  readonly name: unit_v1.RunnerName;
  /** Its version. */
  readonly version: string;
  /** Its image's id. */
  readonly image: string;
};

/** A session file as it was at the end. */
export type SessionFile = {
  /** The session. */
  readonly id: SessionId;
  /** SHA-256 of the file; the blob of that name holds it. */
  readonly digest: string;
  /** Its size in bytes. */
  readonly bytes: number;
};

/** Output, by place, size and digest. */
export type OutputRef = {
  /** Where it was streamed. */
  readonly subject: string;
  /** How many frames. */
  readonly frames: number;
  /** How many bytes the frames had as they were stored. */
  readonly bytes: number;
  /** SHA-256 over the stored frames, in order. */
  readonly digest: string;
  /** True: the end was dropped because of the limit. */
  readonly truncated: boolean;
};

/** What a run used. */
export type Usage = {
  /** From start to end, in milliseconds. */
  readonly wall_ms: number;
  /** Tokens sent to models. */
  readonly input_tokens: number;
  /** Tokens received from models. */
  readonly output_tokens: number;
  /** Calls of models. */
  readonly model_calls: number;
};

// Generated from contracts/unit.v1/schema.json by scripts/types.mjs. Do not edit.

/** One dispatch: one run of one agent for one person. The output topic, the input trust and whether the run may only propose are derived from it and never stored in it. */
export type Invocation = {
  /** For whom the agent acts, and who started it. */
  readonly identity: Identity;
  /** Which agent runs: the name of an agent-runner.v1 document. */
  readonly runner: RunnerName;
  /** The workspaces that are mounted, and at which mode. The first one is where paths below are looked up and where the agent starts. */
  readonly workspaces: readonly WorkspaceMount[];
  /** The tools that the agent may call. Absent or empty: none. */
  readonly tools?: readonly ToolName[];
  /** Why this dispatch was asked for. Input trust is derived from it. */
  readonly trigger: Trigger;
  /** What the dispatch is about. Absent: the same as kind none. */
  readonly context?: Context;
  /** What to do: a fresh task or a resumed session. */
  readonly start: Start;
  /** Ceilings of this one dispatch. They only ever lower what the grant allows. */
  readonly limits?: Limits;
};

/** An Invocation as it is stored and scheduled: the dispatch token is minted later and is never written down. */
export type InvocationWithoutToken = Invocation;

/** The chain of custody's two ends: the person and the launcher. */
export type Identity = {
  /** The person the agent acts for. */
  readonly subject: Subject;
  /** Who started the dispatch. It must hold a grant of the subject. */
  readonly launcher: Launcher;
  /** The dispatch token, a compact JWS. Absent or null when the document is written: the authority mints it, boundaries verify it, and no box ever sees it. */
  readonly token?: string | null;
};

/** A person's stable, opaque id, such as u_jane. Never an e-mail address. */
export type Subject = string;

/** What started a dispatch: user:<id>, schedule:<id> or integration:<name>. */
export type Launcher = string;

/** The name of a runner, such as claude-code. */
export type RunnerName = string;

/** The id of a workspace.v1. */
export type WorkspaceId = string;

/** ro reads, rw writes, propose writes to a branch that a person must accept. */
export type Mode = "ro" | "rw" | "propose";

/** One workspace and the access the dispatch has to it. */
export type WorkspaceMount = {
  /** Which workspace. */
  readonly id: WorkspaceId;
  /** The access. This is the source of truth for what may be written. */
  readonly mode: Mode;
};

/** The name of a tool.v1, such as gmail.send. */
export type ToolName = string;

/** message: a person wrote. scheduled: a schedule was due. event: an integration fired. transcription: a meeting was heard. The first two are trusted input, the last two are not. */
export type Trigger = "message" | "scheduled" | "event" | "transcription";

/** What the dispatch is grounded in, by reference and never by content. */
export type Context = {
  /** none: nothing. meeting: the meeting named here. email, generic: what ref points at. */
  readonly kind: "none" | "meeting" | "email" | "generic";
  /** The meeting, when kind is meeting. */
  readonly meeting?: MeetingRef;
  /** The source, for example one mail. */
  readonly ref?: SourceRef;
};

/** A meeting and one session of it, by the ids that transcript.v1 uses. */
export type MeetingRef = {
  /** The meeting's id. */
  readonly meeting_id: string;
  /** The id of one recording session of that meeting. */
  readonly session_uid: string;
  /** Where it takes place, such as google_meet, zoom or teams. */
  readonly platform?: string;
};

/** An opaque pointer to a source that a tool can resolve. */
export type SourceRef = {
  /** The source's URI, such as mailbox://jane/INBOX/AAMkAGI2. */
  readonly uri: string;
  /** The version that was seen, as the source words it. */
  readonly etag?: string;
};

/** Exactly one of a fresh task and a resumed session. */
export type Start = {
  /** A fresh task. */
  readonly entrypoint?: Entrypoint;
  /** A session to go on with. */
  readonly session?: SessionStart;
};

/** Exactly one of the task's own words and a file that holds them. */
export type Entrypoint = {
  /** The task in words. */
  readonly inline?: Prompt;
  /** A file of the first workspace that holds the task, such as plan/morning-brief.md. */
  readonly path?: WorkspacePath;
};

/** A session to resume: continuity is a file, not a container that stays. */
export type SessionStart = {
  /** The session's id, or the path of its file in the first workspace. */
  readonly ref: WorkspacePath;
  /** What the person says next. */
  readonly inline?: Prompt;
};

/** Words for the agent. */
export type Prompt = string;

/** A path relative to the first workspace: no leading slash, no backslash, no control character, no part that is '..'. */
export type WorkspacePath = string;

/** Ceilings of one dispatch. Each is optional; one that is absent leaves the grant's or the runner's own. */
export type Limits = {
  /** Turns of the agent with its model. */
  readonly turns?: number;
  /** Time from the box's start to its end, in milliseconds (24 h at most). */
  readonly wall_ms?: number;
  /** Time without a frame from the agent, in milliseconds (24 h at most). */
  readonly idle_ms?: number;
  /** Model tokens, input and output together. */
  readonly tokens?: number;
  /** Model cost, in millionths of the currency that the price list uses. */
  readonly cost_micros?: number;
  /** Tool calls, refused ones included. */
  readonly tool_calls?: number;
};

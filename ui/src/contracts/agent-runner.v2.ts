// Generated from contracts/agent-runner.v2/schema.json by scripts/types.mjs. Do not edit.
import type * as unit_v1 from './unit.v1.ts';

/** How to run one agent inside a box. */
export type Runner = {
  /** The name that a dispatch asks for. */
  readonly name: unit_v1.RunnerName;
  /** The agent's own version, as it names it. */
  readonly version: string;
  /** The image by digest. A tag is refused: it can be moved. */
  readonly image: string;
  /** The command and its arguments for a first turn. No shell reads it. */
  readonly argv: readonly Template[];
  /** Environment of the agent's process, on top of the worker's own minimum. */
  readonly env: { readonly [key: string]: Template };
  /** none: closed. prompt: the prompt is written to standard input, which then stays open for follow-ups. */
  readonly stdin: "none" | "prompt";
  /** How the agent's standard output becomes frames. */
  readonly stream: Stream;
  /** How the agent keeps and resumes a conversation. */
  readonly session: Session;
  /** The wire format in which the agent talks to its model. none: it uses no model. */
  readonly inference: "none" | "anthropic" | "openai-chat" | "openai-responses";
  /** How the agent is told of the tools. Absent: it is not. */
  readonly mcp?: Mcp;
  /** Files that the worker writes before the agent starts. */
  readonly files: readonly File[];
  /** The agent's licence, as an SPDX expression or LicenseRef-…. */
  readonly licence: string;
  /** Where the agent comes from. */
  readonly homepage: string;
  /** The least isolation of its boxes; each is stronger than the one before. A host that has neither it nor a stronger one refuses the dispatch. Absent: standard. */
  readonly isolation?: "standard" | "userns" | "gvisor" | "kata";
  /** Symbolic links that the worker makes before the agent starts. */
  readonly links?: readonly Link[];
  /** True: the agent insists on TCP. The worker listens on a port of 127.0.0.1 in the box, and the URLs are http. */
  readonly loopback?: boolean;
  /** The least that a box must offer. */
  readonly resources?: Resources;
};

/** Text with placeholders: {{prompt}} {{session}} {{workspace}} {{inference_url}} {{mcp_url}} {{model}}, and no others. */
export type Template = string;

/** The format of the agent's standard output. */
export type Stream = {
  /** text: everything is the agent's words. jsonl: one JSON object a line, mapped by map. */
  readonly format: "text" | "jsonl";
  /** The first entry whose every condition holds wins; a line that none fits becomes a log frame. */
  readonly map?: readonly MapEntry[];
};

/** One rule from the agent's own event to a frame. */
export type MapEntry = {
  /** Conditions: a JSON pointer into the agent's event, and the scalar that must stand there. */
  readonly when: { readonly [key: string]: string | number | boolean | null };
  /** The kind of frame that comes of it. ignore: none, and the line is dropped. */
  readonly frame: "text" | "tool_call" | "tool_result" | "usage" | "session" | "result" | "error" | "ignore";
  /** The frame's fields: each is taken from the agent's event at a JSON pointer. */
  readonly fields?: { readonly [key: string]: Pointer };
  /** The frame's fields that are constants: used where fields finds nothing. */
  readonly values?: { readonly [key: string]: string | number | boolean };
  /** True: later entries may make further frames of the same line. */
  readonly more?: boolean;
};

/** A JSON pointer (RFC 6901). */
export type Pointer = string;

/** How a conversation goes on in a fresh box. */
export type Session = {
  /** Where in the box the agent keeps its session. */
  readonly path: string;
  /** The command and its arguments for a turn that resumes. Empty: this agent cannot. */
  readonly resume_argv: readonly Template[];
  /** path: the session is the file. frame: the agent names its session in its output. none: it keeps none. */
  readonly id_from: "path" | "frame" | "none";
  /** file: one file. directory: everything below one folder, kept as one archive. */
  readonly kind?: "file" | "directory";
};

/** The agent's configuration for MCP servers. */
export type Mcp = {
  /** Where the agent looks for it. */
  readonly config_path: BoxPath;
  /** The dialect of that file, such as claude-json or codex-toml. */
  readonly format: string;
};

/** An absolute path in the box, with no part that is '..'. */
export type BoxPath = string;

/** One file. */
export type File = {
  /** Where it is written. */
  readonly path: BoxPath;
  /** Its content, with placeholders. */
  readonly template: string;
};

/** The least that a box must offer its agent. The installation's own limits count where they are higher. */
export type Resources = {
  /** Bytes of memory. */
  readonly memory_bytes?: number;
  /** Processes and threads. */
  readonly pids?: number;
  /** Bytes of /tmp. */
  readonly tmp_bytes?: number;
  /** Bytes of the home folder. */
  readonly home_bytes?: number;
};

/** One symbolic link, for an agent whose session folder has a fixed place. */
export type Link = {
  /** Where the link is. */
  readonly path: BoxPath;
  /** What it leads to. */
  readonly target: BoxPath;
};

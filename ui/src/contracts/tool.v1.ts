// Generated from contracts/tool.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as unit_v1 from './unit.v1.ts';

/** One capability, the credential it needs, and the conditions of its use. */
export type Tool = {
  /** The name that dispatches and grants use. */
  readonly name: unit_v1.ToolName;
  /** The scope that a call needs. */
  readonly scope: Scope;
  /** auto: the agent may call it. gate: each call waits for a person's approval, given on a card and bound to the digest of the exact arguments. */
  readonly grant: "auto" | "gate";
  /** Which credential the gateway uses: a reference, never a value. Absent: the tool needs none. */
  readonly cred_ref?: string;
  /** mcp: an upstream MCP server. builtin: part of the gateway. */
  readonly transport: "mcp" | "builtin";
  /** Which upstream server, when the transport is mcp. */
  readonly mcp_server?: string;
  /** Tags that policy reads, such as mnpi or info-barrier. */
  readonly barriers: readonly string[];
  /** read: changes nothing. write: can be undone. irreversible: cannot. */
  readonly effect: "read" | "write" | "irreversible";
  /** Whether a call with the same arguments and key may be sent again after an unknown outcome. */
  readonly idempotent: boolean;
  /** A JSON Schema for the arguments. The tool's own: nothing is said about its inside. */
  readonly args_schema?: { readonly [key: string]: unknown };
  /** What the arguments must satisfy, whatever the grant says. */
  readonly constraints: readonly Constraint[];
};

/** A capability in words, such as send:self or mail:read. */
export type Scope = string;

/** A rule for one argument of a call. An argument that is absent fails it. */
export type Constraint = {
  /** What the argument means: a recipient's address, a path, an amount, a host. */
  readonly on: "recipient" | "path" | "amount" | "host";
  /** Where in the arguments it stands: a JSON pointer. */
  readonly argument: string;
  /** The values that are allowed; a * stands for any run of characters. */
  readonly allow?: readonly string[];
  /** The largest amount that is allowed, in the argument's own unit. */
  readonly max?: number;
};

// Generated from contracts/effect.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as identity_v1 from './identity.v1.ts';
import type * as tool_v1 from './tool.v1.ts';
import type * as unit_v1 from './unit.v1.ts';

/** How one tool call stands, with everything needed to say who caused it. */
export type Effect = {
  /** The effect's id, such as d-7f3a-e1. */
  readonly id: string;
  /** The dispatch that made the call. */
  readonly dispatch: string;
  /** In whose name. */
  readonly subject: unit_v1.Subject;
  /** Who started the dispatch. */
  readonly launcher: unit_v1.Launcher;
  /** The grant that allowed it, or under which it was refused. */
  readonly grant: string;
  /** The ledger sequence of the grant as it stood when this was decided. */
  readonly grant_seq: number;
  /** The scope that the call used or lacked. */
  readonly scope: tool_v1.Scope;
  /** Which tool. */
  readonly tool: unit_v1.ToolName;
  /** SHA-256 of the canonical (RFC 8785) arguments. */
  readonly args_digest: string;
  /** How far the input of the dispatch is trusted. */
  readonly input_trust: identity_v1.InputTrust;
  /** intended: written before the call. awaiting: waits for a person. approved: a person said yes. refused: a rule or a person said no. succeeded, failed: the outcome is known. in_doubt: it is not, and it is not tried again unless the tool is idempotent. */
  readonly phase: "intended" | "awaiting" | "approved" | "refused" | "succeeded" | "failed" | "in_doubt";
  /** Why, when it was refused, failed or is in doubt. An upper-case code that never changes its meaning. */
  readonly reason?: string;
  /** SHA-256 of the result's bytes, when there is one. */
  readonly result_digest?: string;
  /** The key that upstream gets, so that the same call is never two effects. */
  readonly idempotency_key: string;
};

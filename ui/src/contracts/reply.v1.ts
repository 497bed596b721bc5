// Generated from contracts/reply.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as ledger_v1 from './ledger.v1.ts';

/** The answer to one launch message. */
export type Reply = {
  /** The dispatch: the same id for the same launch message, however often it is sent. */
  readonly dispatch: ledger_v1.DispatchId;
  /** The launcher that asked. */
  readonly launcher: ledger_v1.LauncherId;
  /** The launch message's CloudEvents id. Null: it could not be read. */
  readonly event_id: string | null;
  /** admitted: it will run. refused: it will not. */
  readonly outcome: "admitted" | "refused";
  /** Why it was refused. An upper-case code that never changes its meaning. */
  readonly reason?: string;
  /** What was wrong, in a sentence. */
  readonly detail?: string;
  /** What to do about it. */
  readonly hint?: string;
  /** Where its output is streamed: unit.<dispatch>.out. */
  readonly output: string;
  /** The ledger sequence of the decision. */
  readonly seq: number;
};

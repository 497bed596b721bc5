// Generated from contracts/audit.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as ledger_v1 from './ledger.v1.ts';
import type * as tool_v1 from './tool.v1.ts';
import type * as unit_v1 from './unit.v1.ts';

/** One line of the audit tail: one event of the ledger, told for a person. */
export type Row = {
  /** Which contract this is. */
  readonly schema: "audit.v1";
  /** The ledger sequence: also the cursor to go on from. */
  readonly seq: number;
  /** When it happened, from the event. RFC 3339, with a zone. */
  readonly time: string;
  /** The kind of entity, such as dispatch, run or effect. */
  readonly kind: string;
  /** The CloudEvents type. */
  readonly type: string;
  /** How it ended, in one word, such as ok, refused, failed or running. */
  readonly outcome: string;
  /** The dispatch it belongs to. */
  readonly dispatch?: string;
  /** The person in whose name it happened. */
  readonly subject?: unit_v1.Subject;
  /** The launcher behind it: its id, or the unit.v1 form with its kind. */
  readonly launcher?: string;
  /** The scope that was used or lacked. */
  readonly scope?: tool_v1.Scope;
  /** The grant it happened under, or not_checked. */
  readonly grant?: string;
  /** The key that signed the event. */
  readonly keyid?: ledger_v1.KeyId;
  /** What it is about, in a few words. Text from agents in it is cut and shown as text. */
  readonly object: string;
  /** The event's id. */
  readonly id: string;
};

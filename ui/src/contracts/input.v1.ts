// Generated from contracts/input.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as ledger_v1 from './ledger.v1.ts';

/** What a launcher publishes on launch.<launcher>.say, as the data of its CloudEvent, and what is kept on unit.<dispatch>.in. */
export type FollowUp = {
  /** The dispatch. */
  readonly dispatch: ledger_v1.DispatchId;
  /** The words of the next turn. At most 32,768 bytes of UTF-8. */
  readonly text: string;
};

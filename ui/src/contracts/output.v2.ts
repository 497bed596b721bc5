// Generated from contracts/output.v2/schema.json by scripts/types.mjs. Do not edit.
import type * as box_v2 from './box.v2.ts';
import type * as ledger_v2 from './ledger.v2.ts';

/** Consecutive frames of one dispatch. */
export type Chunk = {
  /** The dispatch. */
  readonly dispatch: ledger_v2.DispatchId;
  /** Which attempt at it. */
  readonly attempt: box_v2.Attempt;
  /** The first frame's number. */
  readonly from: number;
  /** The last frame's number. */
  readonly to: number;
  /** The frames from first to last, without a hole. */
  readonly frames: readonly box_v2.Frame[];
};

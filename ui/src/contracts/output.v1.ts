// Generated from contracts/output.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as box_v1 from './box.v1.ts';
import type * as ledger_v1 from './ledger.v1.ts';

/** Consecutive frames of one dispatch. */
export type Chunk = {
  /** The dispatch. */
  readonly dispatch: ledger_v1.DispatchId;
  /** Which attempt at it. */
  readonly attempt: box_v1.Attempt;
  /** The first frame's number. */
  readonly from: number;
  /** The last frame's number. */
  readonly to: number;
  /** The frames from first to last, without a hole. */
  readonly frames: readonly box_v1.Frame[];
};

// Generated from contracts/error.v1/schema.json by scripts/types.mjs. Do not edit.

/** One error that an operator can meet. */
export type Error = {
  /** Which contract this is. */
  readonly schema: "error.v1";
  /** What went wrong. An upper-case code that never changes its meaning. */
  readonly code: string;
  /** One sentence for a person. */
  readonly message: string;
  /** What to do about it. */
  readonly hint?: string;
  /** Where to read more: a page of the served documentation, or an https address. */
  readonly docs?: string;
};

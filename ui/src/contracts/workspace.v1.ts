// Generated from contracts/workspace.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as unit_v1 from './unit.v1.ts';

/** A bucket that holds one git repository of the user's own. */
export type Workspace = {
  /** The id that dispatches and grants name. */
  readonly id: unit_v1.WorkspaceId;
  /** Where the repository's objects are kept: file:///<absolute path>, s3://<bucket>[/<prefix>] or nats://<object store bucket>. Never with credentials in it. */
  readonly bucket: string;
  /** The most that any dispatch may have here; a mount can only be lower. */
  readonly mode: unit_v1.Mode;
  /** How the bytes in the bucket are protected. */
  readonly encryption: Encryption;
  /** What it is for, in one line. */
  readonly purpose: string;
  /** The branch that counts, such as main. */
  readonly trunk: string;
};

/** Encryption at rest. */
export type Encryption = {
  /** none: as it is. age: each object is an age file for the recipients. */
  readonly scheme: "none" | "age";
  /** The age public keys that can read the workspace. */
  readonly recipients?: readonly string[];
};

// Generated from contracts/grant.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as schedule_v1 from './schedule.v1.ts';
import type * as tool_v1 from './tool.v1.ts';
import type * as unit_v1 from './unit.v1.ts';

/** What a person lets a launcher do in their name. The ceiling of every dispatch under it. */
export type Grant = {
  /** The grant's id. */
  readonly id: string;
  /** Who grants. */
  readonly subject: unit_v1.Subject;
  /** To whom. No one else can present it. */
  readonly launcher: unit_v1.Launcher;
  /** The launcher's public key, an nkey of a user (U…). A request signed by another key is refused. */
  readonly launcher_key: string;
  /** Tools that a dispatch may ask for. Empty: none. */
  readonly tools: readonly unit_v1.ToolName[];
  /** Workspaces and the most that may be done in each. */
  readonly workspaces: readonly unit_v1.WorkspaceMount[];
  /** What may start a dispatch under it. */
  readonly trigger: TriggerPattern;
  /** What the arguments of calls must satisfy, on top of the tool's own constraints. */
  readonly constraints: readonly tool_v1.Constraint[];
  /** How much, in all and for each dispatch. */
  readonly limits: GrantLimits;
  /** How far it may be passed on. 0: not at all, and nothing else exists. */
  readonly redelegation_depth: 0;
  /** When a person must say yes to a call, on top of what the tool asks. */
  readonly approval: ApprovalRule;
  /** Not before this moment. RFC 3339, with a zone. */
  readonly not_before: string;
  /** Not after this moment: at most 90 days later. RFC 3339, with a zone. */
  readonly expires: string;
  /** How the subject agreed. */
  readonly consent: Consent;
};

/** What may start a dispatch. */
export type TriggerPattern = {
  /** The triggers that are allowed. */
  readonly on: readonly unit_v1.Trigger[];
  /** The one rule that a scheduled dispatch must come from. Absent: any schedule of this launcher. */
  readonly cron?: schedule_v1.Cron;
  /** The one integration that an event must come from. Absent: any that may use this launcher. */
  readonly integration?: string;
};

/** How much may be done under the grant. */
export type GrantLimits = {
  /** Dispatches in one window. */
  readonly dispatches: number;
  /** The length of a window, in milliseconds, sliding (a minute to 31 days). */
  readonly window_ms: number;
  /** Model cost in one window, in millionths of the price list's currency. Absent: no ceiling here. */
  readonly budget_micros?: number;
  /** Ceilings of each dispatch; a dispatch can only lower them. */
  readonly per_dispatch?: unit_v1.Limits;
};

/** When a call waits for a person. */
export type ApprovalRule = {
  /** gated: only for tools that say so. irreversible: also for every irreversible call. writes: also for every call that changes something. always: for every call. */
  readonly rule: "gated" | "irreversible" | "writes" | "always";
  /** Who may approve. Absent: the subject alone. */
  readonly approvers?: readonly unit_v1.Subject[];
};

/** How the subject agreed, so that it can be shown years later. */
export type Consent = {
  /** oidc: in a signed-in browser session. cli: signed in on the command line. operator: on a single-user installation, by its operator. */
  readonly method: "oidc" | "cli" | "operator";
  /** When. RFC 3339, with a zone. */
  readonly at: string;
  /** The sign-in session's id, when there was one. */
  readonly session?: string;
  /** SHA-256 of the text that was shown and agreed to. */
  readonly statement_digest: string;
};

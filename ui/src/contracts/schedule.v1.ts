// Generated from contracts/schedule.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as unit_v1 from './unit.v1.ts';

/** When to dispatch, what to dispatch, and what to do when that was missed. */
export type Schedule = {
  /** The schedule's id. */
  readonly id: string;
  /** The person it belongs to, and for whom its dispatches act. */
  readonly owner: unit_v1.Subject;
  /** When it is due. */
  readonly when: When;
  /** What is dispatched each time. */
  readonly dispatch: unit_v1.InvocationWithoutToken;
  /** The grant under which it fires. Each firing is checked against it anew. */
  readonly grant: string;
  /** What happens to occurrences that were due while nothing could fire. skip: recorded as skipped. once: the latest one fires. all: each one fires, in order. */
  readonly missed: "skip" | "once" | "all";
  /** How far back missed occurrences count, in milliseconds (366 days at most). 0: not at all. */
  readonly catchup_ms: number;
  /** What happens when the one before still runs. skip: recorded as skipped. queue: one waits. allow: both run. cancel_previous: the older is stopped. */
  readonly overlap: "skip" | "queue" | "allow" | "cancel_previous";
  /** A firing is put off by up to this much, in milliseconds (one hour at most), the same for the same occurrence. */
  readonly jitter_ms?: number;
  /** False: nothing fires and nothing is recorded as missed. */
  readonly enabled: boolean;
};

/** Exactly one of a moment, a rule, an event, and now. */
export type When = {
  /** Once, at this moment. RFC 3339, with a zone. */
  readonly at?: string;
  /** Again and again. */
  readonly cron?: Cron;
  /** Whenever an integration reports something that matches. */
  readonly event?: EventMatch;
  /** Once, as soon as it is stored. */
  readonly now?: true;
};

/** A rule in a time zone. Both clock changes are the scheduler's work: a local time that does not exist fires at the next one that does, one that comes twice fires once. */
export type Cron = {
  /** Five fields: minute, hour, day of month, month, day of week. */
  readonly expr: string;
  /** An IANA time zone, such as Europe/Berlin or UTC. */
  readonly tz: string;
};

/** Which reports of an integration fire the schedule. */
export type EventMatch = {
  /** The integration's name. */
  readonly integration: string;
  /** Fields of the report and the value each must have; a * stands for any run of characters in a string. Empty: every report. */
  readonly match: { readonly [key: string]: string | number | boolean };
};

/** An occurrence's id: <schedule id>@<the instant it is due, RFC 3339 in UTC>. The same occurrence has the same id wherever it is computed, so it fires once. */
export type OccurrenceId = string;

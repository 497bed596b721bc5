// What every fold reads: one event of a stream, and the tables that folds fill.
// A fold is total and pure: it never fails, never acts, asks no clock, and imports nothing but types.
import type { LedgerData } from '../contracts/index.ts';

/** One event as the bridge and the golden logs give it. */
export interface LogEvent {
  readonly seq: number;
  readonly type: string;
  readonly time: string;
  readonly data: unknown;
  /** The person in whose name it happened, where one is named. */
  readonly subject?: string;
  /** The grant that it names, where it names one. */
  readonly grant?: string;
  /** The kind in the event's log subject, where the reader knows it. */
  readonly entity?: string;
}

/** An event of the ledger with the data that its type names. */
export type LedgerEvent = {
  [T in keyof LedgerData]: { readonly seq: number; readonly type: T; readonly time: string; readonly data: LedgerData[T] };
}[keyof LedgerData];

/** Rows by key. A row is never changed in place: whoever holds the old one keeps the old one. */
export type Table<R> = Map<string, R>;

/** Replaces a row by what `change` makes of it, or of a fresh one. */
export function edit<R>(table: Table<R>, key: string, fresh: () => R, change: (row: R) => R): R {
  const row = change(table.get(key) ?? fresh());
  table.set(key, row);
  return row;
}

/** The kind of entity that an event type belongs to: `run` of `custody.run.claimed.v1`. */
export const kindOf = (type: string): string => type.split('.')[1] ?? '';

/** Rows in the order of their keys, as the Rust tables iterate. */
export const sorted = <R>(table: Table<R>): [string, R][] =>
  [...table].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));

// The words that more than one page uses: statuses, connection, errors by code. One word for one thing.
import type { runtime } from './contracts/index.ts';
import type { Status } from './fold/dispatches.ts';

export type Tone = 'ok' | 'busy' | 'wait' | 'bad' | 'off';

interface Said {
  readonly word: string;
  readonly tone: Tone;
  readonly icon: 'check' | 'play' | 'clock' | 'cross' | 'stop' | 'dots' | 'warning';
}

export const STATUS: Readonly<Record<Status, Said>> = {
  queued: { word: 'Queued', tone: 'wait', icon: 'clock' },
  refused: { word: 'Refused', tone: 'bad', icon: 'cross' },
  starting: { word: 'Starting', tone: 'busy', icon: 'dots' },
  running: { word: 'Running', tone: 'busy', icon: 'play' },
  stopping: { word: 'Stopping', tone: 'wait', icon: 'stop' },
  completed: { word: 'Completed', tone: 'ok', icon: 'check' },
  parked: { word: 'Parked', tone: 'wait', icon: 'clock' },
  ended: { word: 'Ended early', tone: 'bad', icon: 'warning' },
};

/** How a run ended, in words. Source: the stop reasons of runtime.v1. */
export const REASON: Readonly<Record<runtime.StopReason, string>> = {
  completed: 'did what it was asked',
  stopped: 'was stopped on request',
  idle_timeout: 'said nothing for too long',
  failed: 'the agent failed',
  oom: 'ran out of memory',
  start_failed: 'the container could not start',
  max_lifetime: 'reached its time limit',
  revoked: 'its authority was withdrawn',
  budget: 'used up its budget',
};
export const reasonWords = (reason: string): string => (REASON as Readonly<Record<string, string>>)[reason] ?? reason;

export const OUTCOME: Readonly<Record<string, Tone>> = {
  ok: 'ok',
  refused: 'bad',
  failed: 'bad',
  unknown: 'wait',
  in_doubt: 'wait',
  running: 'busy',
};

/** What a person can do about an error, by code. What is not listed shows what the server said. */
export const PROBLEM: Readonly<Record<string, string>> = {
  NOT_SIGNED_IN: 'Your session ended. Sign in to go on where you are.',
  KEY_REFUSED: 'This key is not known here. An administrator prints a new one with custody user reset-key.',
  SIGN_IN_OVER: 'That sign-in has ended or was begun in another browser. Begin again.',
  SIGN_IN_REFUSED: 'The sign-in was refused there. Begin again, or use your key.',
  PERSON_UNKNOWN: 'Your account there is linked to nobody here. An administrator links it with custody user link.',
  PROVIDER_UNAVAILABLE: 'The identity provider does not answer. Try again, or use your key.',
  NOT_FOUND: 'Not found or not yours.',
  FORBIDDEN: 'Only an administrator may do this.',
  TOO_MANY: 'Too many tries. Wait a moment, then try again.',
  UNAVAILABLE: 'A part of the installation does not answer. It may be starting.',
  NETWORK: 'The server cannot be reached.',
  SUBJECT_REFUSED: 'A dispatch acts for the person who is signed in.',
};

export const plural = (n: number, one: string, many = `${one}s`): string => `${number(n)} ${n === 1 ? one : many}`;

const numbers = new Intl.NumberFormat('en');
export const number = (n: number): string => numbers.format(n);

export function bytes(n: number): string {
  if (n < 1_024) return `${n} B`;
  if (n < 1_048_576) return `${(n / 1_024).toFixed(n < 10_240 ? 1 : 0)} KiB`;
  if (n < 1_073_741_824) return `${(n / 1_048_576).toFixed(1)} MiB`;
  return `${(n / 1_073_741_824).toFixed(1)} GiB`;
}

/** A span of time as a person reads it: 38 ms, 4.2 s, 2 m 04 s, 3 h 12 m. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1)} s`;
  const s = Math.round(ms / 1_000);
  if (s < 3_600) return `${Math.floor(s / 60)} m ${String(s % 60).padStart(2, '0')} s`;
  const m = Math.floor(s / 60);
  if (m < 1_440) return `${Math.floor(m / 60)} h ${String(m % 60).padStart(2, '0')} m`;
  return `${Math.floor(m / 1_440)} d ${Math.floor((m % 1_440) / 60)} h`;
}

const clockFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dayFormat = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });
export const clock = (at: Date): string => clockFormat.format(at);
export const clockMs = (at: Date): string => `${clockFormat.format(at)}.${String(at.getMilliseconds()).padStart(3, '0')}`;
export const day = (at: Date): string => dayFormat.format(at);

/** How long ago, in one unit: that is all a list needs, the exact time is in the title. */
export function ago(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1_000));
  if (s < 5) return 'just now';
  if (s < 60) return `${s} s ago`;
  if (s < 3_600) return `${Math.floor(s / 60)} m ago`;
  if (s < 86_400) return `${Math.floor(s / 3_600)} h ago`;
  return `${Math.floor(s / 86_400)} d ago`;
}

export const short = (id: string, keep = 12): string => (id.length > keep + 1 ? `${id.slice(0, keep)}…` : id);

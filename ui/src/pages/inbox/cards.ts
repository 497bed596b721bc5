// What the server says of a card, in words, and text that hides nothing.
import type { IconName } from '../../parts/Icon.svelte';
import type { Tone } from '../../words.ts';

export interface CardRow {
  readonly card: string;
  readonly dispatch: string;
  readonly subject: string;
  readonly launcher: string;
  readonly approvers: readonly string[];
  readonly tool: string;
  readonly scope: string;
  readonly effect: string;
  readonly input_trust: string;
  readonly rule: string;
  readonly version: number;
  readonly args_digest: string;
  readonly state: string;
  readonly open: boolean;
  readonly until: number | null;
  readonly expires_at: number;
  readonly by: string | null;
  readonly reason: string | null;
  readonly opened_at: string;
  readonly first_seq: number;
  readonly last_seq: number;
}

export const STATE: Readonly<Record<string, { readonly word: string; readonly tone: Tone; readonly icon: IconName }>> = {
  waiting: { word: 'Waits for a decision', tone: 'wait', icon: 'clock' },
  approved: { word: 'Approved', tone: 'busy', icon: 'check' },
  running: { word: 'Being done', tone: 'busy', icon: 'play' },
  succeeded: { word: 'Done', tone: 'ok', icon: 'check' },
  failed: { word: 'Failed', tone: 'bad', icon: 'warning' },
  in_doubt: { word: 'In doubt', tone: 'wait', icon: 'warning' },
  rejected: { word: 'Rejected', tone: 'off', icon: 'cross' },
  expired: { word: 'Expired', tone: 'off', icon: 'clock' },
  refused: { word: 'Refused', tone: 'bad', icon: 'cross' },
};
export const EFFECT: Readonly<Record<string, { readonly word: string; readonly tone: Tone }>> = {
  read: { word: 'Reads', tone: 'off' },
  write: { word: 'Changes', tone: 'wait' },
  irreversible: { word: 'Cannot be undone', tone: 'bad' },
};
/** What a decision came to when it was not taken. */
export const DECIDE: Readonly<Record<string, string>> = {
  APPROVAL_DECIDED: 'Somebody decided already.',
  APPROVAL_EXPIRED: 'Its time is up. The agent proposes it again in a new dispatch.',
  APPROVAL_STALE: 'It has changed since you read it. Read what is there now, then decide.',
  APPROVAL_NOT_YOURS: 'You may read this and not decide it.',
};

/** A text without anything that is not seen: control, format and other invisible characters are spelled out. */
export const plain = (text: string): string =>
  text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Zs}\p{DI}]/gu, (c) => (c === '\n' || c === ' ' ? c : `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`));

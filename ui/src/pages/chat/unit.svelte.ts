// What a message becomes: a unit.v1 for the person who is signed in, with the runner and the workspaces they chose.
import type { unit } from '../../contracts/index.ts';
import { keep, recall } from '../../bridge/keep.ts';

export interface Choice {
  runner: string;
  workspace: string;
  mode: 'ro' | 'rw';
  /** A container for each message, or one that stays for follow-ups until it was idle for too long. */
  box: 'each' | 'stay';
}
/** Turns that a container that stays may take: the first message and nineteen follow-ups. */
const TURNS_STAY = 20;

const stored = recall<Partial<Choice>>('choice', {});
export const choice: Choice = $state({
  runner: typeof stored.runner === 'string' ? stored.runner : 'custody-agent',
  workspace: typeof stored.workspace === 'string' ? stored.workspace : 'default',
  mode: stored.mode === 'ro' ? 'ro' : 'rw',
  box: stored.box === 'stay' ? 'stay' : 'each',
});
export const remember = (): void => void keep('choice', { ...choice });

/** A session goes on with the runner it was begun with: another could not read its file. */
export function unitOf(subject: string, launcher: string, text: string, session: string | null, runner: string | null): unit.InvocationWithoutToken {
  return {
    identity: { subject, launcher: `user:${launcher}` },
    runner: session === null ? choice.runner : (runner ?? choice.runner),
    workspaces: [{ id: choice.workspace, mode: choice.mode }],
    trigger: 'message',
    ...(choice.box === 'stay' ? { limits: { turns: TURNS_STAY } } : {}),
    start: session === null ? { entrypoint: { inline: text } } : { session: { ref: session, inline: text } },
  };
}

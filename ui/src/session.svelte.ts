// Who is signed in, as the server says it. The cookie is not readable here, and nothing of it is kept.
import { get, request, type Problem } from './api.ts';
import { start, stop } from './bridge/store.svelte.ts';
import { keep } from './bridge/keep.ts';

export interface Person {
  readonly subject: string;
  readonly name: string;
  readonly admin: boolean;
  readonly expires_at: number;
  /** The launcher that their messages go through. */
  readonly launcher: string;
  readonly version: string;
}

/** Where somebody may sign in besides: a link leads there. */
export interface Provider {
  readonly id: string;
  readonly label: string;
}

let person = $state.raw<Person | null>(null);
let state = $state<'asking' | 'in' | 'out' | 'unknown'>('asking');

export const session = {
  get person(): Person | null {
    return person;
  },
  /** unknown: the server could not be asked. */
  get state(): 'asking' | 'in' | 'out' | 'unknown' {
    return state;
  },
};

function enter(who: Person): void {
  person = who;
  state = 'in';
  start(who.subject);
}

/** Asks the server who we are. */
export async function check(): Promise<void> {
  const answer = await get<Person>('/me');
  if (answer.ok) enter(answer.value);
  else if (answer.problem.status === 401) state = 'out';
  else if (person === null) state = 'unknown';
}

export async function signIn(key: string): Promise<Problem | null> {
  const answer = await request<Person>('POST', '/session', { key });
  if (!answer.ok) return answer.problem;
  enter(answer.value);
  return null;
}

/** Identity providers, as the server is configured. Whoever cannot ask still has the key. */
export async function elsewhere(): Promise<readonly Provider[]> {
  const answer = await get<readonly (Provider & { readonly kind: string })[]>('/sign-in');
  return answer.ok ? answer.value.filter((way) => way.kind === 'redirect') : [];
}

export async function signOut(): Promise<void> {
  await request('DELETE', '/session');
  stop();
  person = null;
  state = 'out';
  keep('last-session', null);
}

/** The bridge said that the session ended. What was being written stays in this browser. */
export function ended(): void {
  if (state === 'in') state = 'out';
}

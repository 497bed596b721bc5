// The REST side: plain requests, answered as data or as a problem from the server's one table of errors.
export interface Problem {
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly hint: string | null;
  readonly status: number;
}
export type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: Problem };

const WAIT_MS = 30_000;

const problem = (code: string, title: string, status = 0): Problem => ({ code, title, detail: '', hint: null, status });

export async function request<T>(
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: unknown,
  wait = WAIT_MS,
): Promise<Result<T>> {
  let answer: Response;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method,
      headers: body === undefined ? { accept: 'application/json' } : { accept: 'application/json', 'content-type': 'application/json' },
      body: body === undefined ? null : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      redirect: 'error',
      signal: AbortSignal.timeout(wait),
    });
  } catch (error) {
    const late = error instanceof DOMException && error.name === 'TimeoutError';
    return { ok: false, problem: late ? problem('TIMED_OUT', 'It was not done in time') : problem('NETWORK', 'The server cannot be reached') };
  }
  const said: unknown = answer.status === 204 ? null : await answer.json().catch(() => undefined);
  if (answer.ok && said !== undefined) return { ok: true, value: said as T };
  if (answer.ok) return { ok: false, problem: problem('NOT_JSON', 'The answer could not be read', answer.status) };
  const p = (said ?? {}) as { readonly code?: string; readonly title?: string; readonly detail?: string; readonly hint?: string };
  return {
    ok: false,
    problem: {
      code: p.code ?? `HTTP_${answer.status}`,
      title: p.title ?? 'The server refused',
      detail: p.detail ?? '',
      hint: p.hint ?? null,
      status: answer.status,
    },
  };
}

export const get = <T>(path: string, wait?: number): Promise<Result<T>> => request<T>('GET', path, undefined, wait);

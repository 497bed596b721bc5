// A request that a page shows: loading, then the answer or the problem, and again on demand. An old answer stays while a
// new one is on its way.
import { get, type Problem, type Result } from '../api.ts';

export interface Asked<T> {
  readonly value: T | null;
  readonly problem: Problem | null;
  readonly loading: boolean;
  again(): void;
}

export function asked<T>(path: () => string | null, wait?: number): Asked<T> {
  let value = $state.raw<T | null>(null);
  let problem = $state.raw<Problem | null>(null);
  let loading = $state(true);
  let turn = $state(0);
  $effect(() => {
    const where = path();
    void turn;
    if (where === null) return;
    let mine = true;
    loading = true;
    void get<T>(where, wait).then((result: Result<T>) => {
      if (!mine) return;
      loading = false;
      if (result.ok) {
        value = result.value;
        problem = null;
      } else {
        problem = result.problem;
      }
    });
    return () => {
      mine = false;
    };
  });
  return {
    get value() {
      return value;
    },
    get problem() {
      return problem;
    },
    get loading() {
      return loading;
    },
    again: () => void turn++,
  };
}

// What survives a reload in this browser: drafts, the outbox, small choices. A browser that keeps nothing loses only that.
const PREFIX = 'custody.';

export function recall<T>(key: string, otherwise: T): T {
  try {
    const text = localStorage.getItem(PREFIX + key);
    return text === null ? otherwise : (JSON.parse(text) as T);
  } catch {
    return otherwise;
  }
}

/** False: the browser did not keep it. */
export function keep(key: string, value: unknown): boolean {
  try {
    if (value === null || value === '') localStorage.removeItem(PREFIX + key);
    else localStorage.setItem(PREFIX + key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

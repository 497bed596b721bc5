// How long to wait before the next try: full jitter, so that a thousand pages do not come back in the same second.
export const RETRY_FIRST_MS = 300;
export const RETRY_MAX_MS = 15_000;

/** A delay for the n-th try in a row, n from 0. `random` gives [0, 1). */
export function backoff(tries: number, random: () => number): number {
  const ceiling = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(tries, 16));
  return Math.round(RETRY_FIRST_MS + random() * (ceiling - RETRY_FIRST_MS));
}
